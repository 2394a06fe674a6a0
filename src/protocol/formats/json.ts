/**
 * The JSON form of flux.v1: proto3 JSON (64-bit numbers as strings, enums by name), with one exception: a payload is
 * `data` (any JSON value) or `b64` (base64 of bytes). Input is checked field by field. Unknown fields are refused by
 * name, so that a typing error is reported and not ignored.
 */
import protobuf from "protobufjs/minimal.js";
import { array, boolean, check, optional, strictObject, text, unknown, whole, wrong, string, type Read } from "../checks.ts";
import { decodePublication, type PageHead, type PageKind } from "../codec.ts";
import { Format, type ClientFrame, type Publication, type ServerFrame, subprotocols } from "../messages.ts";
import { BadFrame, Batch, noFrame, wireFormat, type EncodedPublication, type FirstEvent, type Out } from "./format.ts";

const utf8 = new TextDecoder();
const toUtf8 = new TextEncoder();
const base64 = protobuf.util.base64;
const noPayload = new Uint8Array(0);

const uint32 = whole(0, 0xffffffff);
/** A number, or its digits in a string. */
const uint64: Read<number> = (value) => {
  const read = typeof value === "string" && /^\d{1,16}$/.test(value) ? Number(value) : value;
  return Number.isSafeInteger(read) && (read as number) >= 0 ? (read as number) : wrong("expected a number of at most 2^53, which may be in a string");
};
const base64Text: Read<string> = (value) => (base64Pattern.test(string(value)) ? (value as string) : wrong("expected base64"));
const base64Pattern = /^(?:[0-9a-zA-Z+/]{4})*(?:[0-9a-zA-Z+/]{2}==|[0-9a-zA-Z+/]{3}=)?$/;
const position = strictObject({ epoch: text, seq: uint64 });
const payload = { data: optional(unknown), b64: optional(base64Text) };

const resume = strictObject({
  session: text,
  token: text,
  positions: optional(array(strictObject({ room: text, position }))),
});

const commands = {
  hello: strictObject({
    version: uint32,
    token: optional(text),
    client: optional(text),
    device: optional(text),
    resume: optional(resume),
    ticket: optional(text),
  }),
  join: strictObject({ room: text, recover: optional(position), history: optional(uint32) }),
  leave: strictObject({ room: text }),
  publish: withPayload(strictObject({ room: text, ...payload, key: optional(text), excludeSelf: optional(boolean) })),
  history: strictObject({
    room: text,
    since: optional(position),
    before: optional(position),
    limit: optional(uint32),
    orOldest: optional(boolean),
  }),
  ping: strictObject({ time: optional(uint64) }),
  echo: withPayload(strictObject(payload)),
  bye: strictObject({}),
  send: withPayload(strictObject({ user: text, ...payload, key: optional(text) })),
  ack: strictObject({ position }),
  refresh: strictObject({ token: text }),
  presence: strictObject({ room: text, countsOnly: optional(boolean), after: optional(text), limit: optional(uint32) }),
  watch: strictObject({ users: array(text) }),
  unwatch: strictObject({ users: array(text) }),
} satisfies Record<string, Read<object>>;

const clientFrame = strictObject({
  id: optional(uint32),
  ...Object.fromEntries(Object.entries(commands).map(([kind, read]) => [kind, optional<object>(read)])),
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
  const checked = check(clientFrame, value, "frame");
  if ("problem" in checked) return badFrame(value, checked.problem);
  const kinds = Object.keys(checked.value).filter((key) => key !== "id");
  if (kinds.length > 1) return badFrame(value, `only one command per frame, not ${kinds.join(" and ")}`);
  return { ...checked.value, command: kinds[0] } as ClientFrame;
}

function badFrame(value: unknown, text: string): BadFrame {
  return new BadFrame(idOf(value), Object.keys(Object(value)).find((key) => key !== "id") ?? "", text);
}

/** Any event of the node except those that carry publications. */
export function encodeServerJson(frame: ServerFrame): string {
  return JSON.stringify(jsonOf(frame));
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
  const rest = JSON.stringify(jsonOf(head)).slice(0, -1);
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

function jsonOf(value: object): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const entries = Object.entries(value).filter(([key, field]) => field != null && key !== "event" && key !== "format");
  for (const [key, field] of entries) {
    if (key === "id" && field === 0) continue;
    if (field instanceof Uint8Array) Object.assign(out, payloadOf(field, (value as { format?: number }).format));
    else if (Array.isArray(field)) out[key] = field.map((item: unknown) => (typeof item === "object" && item !== null ? jsonOf(item) : item));
    else if (typeof field === "object") out[key] = jsonOf(field);
    else out[key] = wideFields.has(key) ? String(field) : field;
  }
  return out;
}

function payloadOf(bytes: Uint8Array, format: number | undefined): { data: unknown } | { b64: string } {
  if (format === Format.JSON) return { data: JSON.parse(utf8.decode(bytes)) };
  return { b64: toBase64(bytes) };
}

type Given = { data?: unknown; b64?: string | undefined };

/** Reads a command with its payload as bytes. */
function withPayload<T extends Given>(read: Read<T>): Read<Omit<T, keyof Given> & { payload: Uint8Array; format: number }> {
  return (value) => {
    const { data, b64, ...rest } = read(value);
    const hasData = data !== undefined;
    if (hasData === (b64 !== undefined)) return wrong("expected one of data and b64");
    return b64 !== undefined ? { ...rest, payload: fromBase64(b64), format: Format.BINARY } : { ...rest, payload: jsonBytes(data), format: Format.JSON };
  };
}

function jsonBytes(data: unknown): Uint8Array {
  try {
    return toUtf8.encode(JSON.stringify(data));
  } catch {
    // JSON.parse takes any depth, JSON.stringify runs out of stack.
    return wrong("data is nested too deeply");
  }
}

function idOf(value: unknown): number {
  const id = check(uint32, (value as { id?: unknown } | null)?.id, "id");
  return "value" in id ? id.value : 0;
}

function toBase64(bytes: Uint8Array): string {
  return base64.encode(bytes, 0, bytes.length);
}

function fromBase64(text: string): Uint8Array {
  const bytes = new Uint8Array(base64.length(text));
  base64.decode(text, bytes, 0);
  return bytes;
}
