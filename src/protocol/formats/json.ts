/**
 * The JSON form of flux.v1: proto3 JSON (64-bit numbers as strings, enums by name), with one exception: a payload is
 * `data` (any JSON value) or `b64` (base64 of bytes). Input is checked field by field. Unknown fields are refused by
 * name, so that a typing error is reported and not ignored.
 */
import protobuf from "protobufjs/minimal.js";
import * as z from "zod";
import { decodePublication, type PageHead, type PageKind } from "../codec.ts";
import { Format, type ClientFrame, type Publication, type ServerFrame, subprotocols } from "../messages.ts";
import { BadFrame, Batch, noFrame, wireFormat, type EncodedPublication, type FirstEvent, type Out } from "./format.ts";

const utf8 = new TextDecoder();
const toUtf8 = new TextEncoder();
const base64 = protobuf.util.base64;
const noPayload = new Uint8Array(0);

const uint32 = z.number().int().min(0).max(0xffffffff);
const uint64 = z
  .union([z.string().regex(/^\d{1,16}$/, "expected a number of at most 2^53 in a string"), z.number().int().min(0)])
  .transform(Number)
  .refine(Number.isSafeInteger, "expected a number of at most 2^53");
const text = z.string().refine((value) => value.isWellFormed(), "expected well-formed Unicode");
const position = z.strictObject({ epoch: text, seq: uint64 });
const payload = { data: z.unknown().optional(), b64: z.base64().optional() };

const resume = z.strictObject({
  session: text,
  token: text,
  positions: z.array(z.strictObject({ room: text, position })).optional(),
});

const commands = {
  hello: z.strictObject({
    version: uint32,
    token: text.optional(),
    client: text.optional(),
    device: text.optional(),
    resume: resume.optional(),
    ticket: text.optional(),
  }),
  join: z.strictObject({ room: text, recover: position.optional(), history: uint32.optional() }),
  leave: z.strictObject({ room: text }),
  publish: z
    .strictObject({ room: text, ...payload, key: text.optional(), excludeSelf: z.boolean().optional() })
    .transform(withPayload),
  history: z.strictObject({
    room: text,
    since: position.optional(),
    before: position.optional(),
    limit: uint32.optional(),
    orOldest: z.boolean().optional(),
  }),
  ping: z.strictObject({ time: uint64.optional() }),
  echo: z.strictObject(payload).transform(withPayload),
  bye: z.strictObject({}),
  send: z.strictObject({ user: text, ...payload, key: text.optional() }).transform(withPayload),
  ack: z.strictObject({ position }),
  refresh: z.strictObject({ token: text }),
  presence: z.strictObject({ room: text, countsOnly: z.boolean().optional(), after: text.optional(), limit: uint32.optional() }),
  watch: z.strictObject({ users: z.array(text) }),
  unwatch: z.strictObject({ users: z.array(text) }),
};

const clientFrame = z.strictObject({
  id: uint32.optional(),
  ...(Object.fromEntries(Object.entries(commands).map(([kind, shape]) => [kind, shape.optional()])) as {
    [K in keyof typeof commands]: z.ZodOptional<(typeof commands)[K]>;
  }),
});

/** The node sends one frame in a message. A client may also send an array of frames. */
export const json = wireFormat({
  name: "json",
  subprotocol: subprotocols.json,
  isBinary: false,
  isStream: false,
  parsesPayloads: true,

  decode(bytes, start, end) {
    let value: unknown;
    try {
      value = JSON.parse(utf8.decode(bytes.subarray(start, end)));
    } catch {
      return null;
    }
    return Array.isArray(value) ? new Batch(value, decodeClientJson) : decodeClientJson(value);
  },

  frame: (_, frame) => toUtf8.encode(encodeServerJson(frame)),
  publicationBytesMax: eventBytesMax,
  writePublication: writeEvent,
  page: (_, kind, id, head, bodies) => toUtf8.encode(pageJson(kind, id, head, bodies)),

  append: null,

  isAnswer: (message) => message[2] === i && message[3] === d && message[4] === quote,

  firstOf(message) {
    const value = parsed(message);
    return value === undefined ? noFrame : eventOf(value);
  },
});

/** An answer begins with its id, as `{"id":` */
const [quote, i, d] = toUtf8.encode('"id');

/** Undefined: no JSON. Every message of the node is JSON. */
export function parsed(message: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(message)) as unknown;
  } catch {
    return undefined;
  }
}

/** `firstOf` for a parsed frame. */
export function eventOf(frame: unknown): FirstEvent | null | typeof noFrame {
  if (typeof frame !== "object" || frame === null) return noFrame;
  const { publication, presenceChanged } = frame as SentEvent;
  if (publication != null) return { room: publication.room, seq: Number(publication.seq), isPresence: false };
  return presenceChanged == null ? null : { room: presenceChanged.room, seq: presenceChanged.version, isPresence: true };
}

interface SentEvent {
  readonly publication?: { readonly room: string; readonly seq: string } | null;
  readonly presenceChanged?: { readonly room: string; readonly version: number } | null;
}

/** Checks one frame of a message. A BadFrame names the first invalid field. */
export function decodeClientJson(value: unknown): ClientFrame | BadFrame {
  const result = clientFrame.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    const where = issue === undefined || issue.path.length === 0 ? "frame" : issue.path.join(".");
    return badFrame(value, `${where}: ${issue?.message ?? "malformed"}`);
  }
  const kinds = Object.keys(result.data).filter((key) => key !== "id");
  if (kinds.length > 1) return badFrame(value, `only one command per frame, not ${kinds.join(" and ")}`);
  return { ...result.data, command: kinds[0] } as ClientFrame;
}

function badFrame(value: unknown, text: string): BadFrame {
  return new BadFrame(idOf(value), Object.keys(Object(value)).find((key) => key !== "id") ?? "", text);
}

/** Any event of the node except those that carry publications. */
export function encodeServerJson(frame: ServerFrame): string {
  return textOf(frame);
}

function decoded(encoded: EncodedPublication): Publication {
  return (encoded.publication ??= decodePublication(encoded.bytes.subarray(encoded.start, encoded.end)));
}

/** Names, quotes and numbers of a publication, and what is around it. */
const eventTextMax = 200;
/** Characters of a string escaped, as in \u0000. Other characters take three bytes at most. */
const escapedMax = 6;

export function eventBytesMax(encoded: EncodedPublication): number {
  const { room, epoch, sender, payload, format } = decoded(encoded);
  const chars = (room?.length ?? 0) + (epoch?.length ?? 0) + (sender?.length ?? 0);
  const bytes = payload?.length ?? 0;
  return eventTextMax + escapedMax * chars + (format === Format.JSON ? bytes : 4 * Math.ceil(bytes / 3));
}

/** The live event of one publication. The payload of a JSON publication goes from buffer to buffer. */
export function writeEvent(out: Out, encoded: EncodedPublication): void {
  const publication = decoded(encoded);
  const payload = publication.payload ?? noPayload;
  out.rawText(`{"publication":${headText(publication)}`);
  if (publication.format !== Format.JSON) return out.rawText(`"b64":"${toBase64(payload)}"}}`);
  out.rawText('"data":');
  out.raw(payload, 0, payload.length);
  out.rawText("}}");
}

/** An event that carries publications, from their binary bodies. */
export function pageJson<K extends PageKind>(
  kind: K,
  id: number,
  head: PageHead[K],
  bodies: readonly Uint8Array[],
): string {
  const rest = textOf(head).slice(0, -1);
  const texts = bodies.map((body) => publicationText(decodePublication(body)));
  return `{${id === 0 ? "" : `"id":${id},`}"${kind}":${rest},"publications":[${texts.join(",")}]}}`;
}

function publicationText(p: Publication): string {
  // The payload of a JSON publication was checked on arrival, so it is copied unchanged.
  const payload =
    p.format === Format.JSON
      ? `"data":${utf8.decode(p.payload ?? noPayload)}`
      : `"b64":"${toBase64(p.payload ?? noPayload)}"`;
  return `${headText(p)}${payload}}`;
}

/** A publication up to its payload. */
function headText(p: Publication): string {
  return (
    `{"room":${JSON.stringify(p.room)},"epoch":${JSON.stringify(p.epoch)},"seq":"${p.seq}","prev":"${p.prev ?? 0}",` +
    `"sender":${JSON.stringify(p.sender)},"time":"${p.time}",`
  );
}

const wideFields = new Set(["seq", "prev", "time", "serverTime", "expires", "lastSeen"]);

/**
 * Writes the text itself. A copy of the message for JSON.stringify costs twice as much: V8 keeps an object to which many
 * fields were added one by one as a table, and reads tables slowly.
 */
function textOf(value: object): string {
  let text = "";
  for (const key of Object.keys(value)) {
    const field: unknown = (value as Record<string, unknown>)[key];
    if (field == null || key === "event" || key === "format" || (key === "id" && field === 0)) continue;
    if (text !== "") text += ",";
    if (field instanceof Uint8Array) text += payloadText(field, (value as { format?: number }).format);
    else if (Array.isArray(field)) text += `"${key}":[${field.map(valueText).join(",")}]`;
    else text += `"${key}":${wideFields.has(key) ? `"${String(field as number)}"` : valueText(field)}`;
  }
  return `{${text}}`;
}

function valueText(value: unknown): string {
  return typeof value === "object" && value !== null ? textOf(value) : JSON.stringify(value);
}

function payloadText(bytes: Uint8Array, format: number | undefined): string {
  return format === Format.JSON ? `"data":${JSON.stringify(JSON.parse(utf8.decode(bytes)))}` : `"b64":"${toBase64(bytes)}"`;
}

function withPayload<T extends { data?: unknown; b64?: string | undefined }>(
  { data, b64, ...rest }: T,
  context: z.RefinementCtx,
): Omit<T, "data" | "b64"> & { payload: Uint8Array; format: number } {
  const hasData = data !== undefined;
  if (hasData === (b64 !== undefined)) context.addIssue({ code: "custom", message: "expected one of data and b64" });
  if (b64 !== undefined) return { ...rest, payload: fromBase64(b64), format: Format.BINARY };
  return { ...rest, payload: hasData ? jsonBytes(data, context) : noPayload, format: Format.JSON };
}

function jsonBytes(data: unknown, context: z.RefinementCtx): Uint8Array {
  try {
    return toUtf8.encode(JSON.stringify(data));
  } catch {
    // JSON.parse takes any depth, JSON.stringify runs out of stack.
    context.addIssue({ code: "custom", message: "data is nested too deeply" });
    return noPayload;
  }
}

function idOf(value: unknown): number {
  const id = uint32.safeParse((value as { id?: unknown } | null)?.id);
  return id.success ? id.data : 0;
}

function toBase64(bytes: Uint8Array): string {
  return base64.encode(bytes, 0, bytes.length);
}

function fromBase64(text: string): Uint8Array {
  const bytes = new Uint8Array(base64.length(text));
  base64.decode(text, bytes, 0);
  return bytes;
}
