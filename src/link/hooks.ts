/** The questions of reactors for the application's backend, and the verdicts: one record each (records.ts has others). */
import type { ErrorCode } from "../errors.ts";
import type { Link, RecordReader } from "./link.ts";
import { textBytesMax } from "./link.ts";
import { kinds } from "./records.ts";

export const hookNames = ["connect", "join", "publish", "refresh"] as const;
export type HookName = (typeof hookNames)[number];

/** Rooms that a session has from hooks, and the bytes of their names: they travel in its resume token. */
export const hookRoomsMax = 100;
export const hookRoomsBytesMax = 4096;

const noPayload = new Uint8Array(0);

// ------------------------------------------------------------------------------- reactor → hooks

/** A question. The reactor's number of it comes back with the verdict. */
export interface AskRecord {
  number: number;
  hook: HookName;
  tenant: string;
  user: string;
  /** Hash of the client's token. A verdict is remembered for it, and for the user. */
  tokenHash: string;
  /** The user's name was made up by the node: it says nothing about the client. */
  isAnonymous: boolean;
  /** Empty in connect, where there is none yet. */
  session: string;
  /** In connect: what the client says of itself, and its token where the node cannot read it. */
  client: string;
  device: string;
  token: string;
  /** In join and publish. */
  room: string;
  /** In publish: the idempotency key and the payload, a view that is valid until the reader returns. */
  key: string;
  format: number;
  payload: Uint8Array;
}

export type Question = Omit<AskRecord, "number">;

/** Everything that most questions leave empty. */
export const nothingAsked = { session: "", client: "", device: "", token: "", room: "", key: "", format: 0, payload: noPayload } as const;

/** False: the hub is too far behind. */
export function writeAsk(link: Link, number: number, { hook, tenant, user, tokenHash, isAnonymous, session, client, device, token, room, key, format, payload }: Question): boolean {
  const texts = [tenant, user, tokenHash, session, client, device, token, room, key];
  const bytes = 16 + payload.length + texts.reduce((sum, text) => sum + textBytesMax(text), 0);
  if (!link.begin(kinds.ask, bytes, false)) return false;
  link.u32(number);
  link.u8(hookNames.indexOf(hook));
  link.u8(isAnonymous ? 1 : 0);
  link.u8(format);
  for (const text of texts) link.text(text);
  link.blob(payload);
  link.end();
  return true;
}

export function readAsk(r: RecordReader): AskRecord {
  const number = r.u32();
  const hook = hookNames[r.u8()] ?? "connect";
  const isAnonymous = r.u8() !== 0;
  const format = r.u8();
  const tenant = r.text();
  const user = r.text();
  const tokenHash = r.text();
  const session = r.text();
  const client = r.text();
  const device = r.text();
  const token = r.text();
  const room = r.text();
  const key = r.text();
  return { number, hook, tenant, user, tokenHash, isAnonymous, session, client, device, token, room, key, format, payload: r.blob() };
}

// ------------------------------------------------------------------------------- hooks → reactor

/** What the backend decided, or the node where the backend did not. */
export type HookVerdict = Allowed | Denied | Unanswered;

export interface Allowed {
  readonly kind: "allowed";
  /** Until when it holds for sessions that resume; milliseconds since 1970. 0: as long as the session lives. */
  readonly until: number;
  /** In connect: the user's name. Empty: the name in the question. */
  readonly user: string;
  /** In connect and refresh: rooms to join the session into. */
  readonly rooms: readonly string[];
  /** In publish: what is published instead of the client's data. Null: that. */
  readonly payload: Uint8Array | null;
  readonly format: number;
}

export interface Denied {
  readonly kind: "denied";
  /** The close code in connect, the error code elsewhere. */
  readonly close: number;
  readonly error: ErrorCode;
  /** For the client; empty for none. */
  readonly reason: string;
}

/** The backend gave no verdict: hookOnFailure decides. */
export interface Unanswered {
  readonly kind: "unanswered";
  readonly isAllowed: boolean;
  /** The node did not ask, since too many questions wait. */
  readonly isFull: boolean;
  /** For the log. */
  readonly text: string;
}

export function writeVerdict(link: Link, number: number, verdict: HookVerdict): void {
  switch (verdict.kind) {
    case "allowed": return writeAllowed(link, number, verdict);
    case "denied": return writeRefusal(link, number, 1, 0, verdict.close, verdict.error, verdict.reason);
    case "unanswered": return writeRefusal(link, number, 2, (verdict.isAllowed ? 1 : 0) | (verdict.isFull ? 2 : 0), 0, "", verdict.text);
  }
}

function writeAllowed(link: Link, number: number, { until, user, rooms, payload, format }: Allowed): void {
  const bytes = 40 + textBytesMax(user) + rooms.reduce((sum, room) => sum + textBytesMax(room), 0) + (payload?.length ?? 0);
  link.begin(kinds.verdict, bytes, true);
  link.u32(number);
  link.u8(0);
  link.f64(until);
  link.text(user);
  link.u32(rooms.length);
  for (const room of rooms) link.text(room);
  link.u8(payload === null ? 0 : 1);
  link.u8(format);
  link.blob(payload ?? noPayload);
  link.end();
}

function writeRefusal(link: Link, number: number, kind: 1 | 2, flags: number, close: number, error: string, text: string): void {
  link.begin(kinds.verdict, 24 + textBytesMax(error) + textBytesMax(text), true);
  link.u32(number);
  link.u8(kind);
  link.u8(flags);
  link.u32(close);
  link.text(error);
  link.text(text);
  link.end();
}

/** A payload in it is a view into the ring, valid until the record's handler returns. */
export function readVerdict(r: RecordReader): { number: number; verdict: HookVerdict } {
  const number = r.u32();
  const kind = r.u8();
  if (kind === 0) {
    const until = r.f64();
    const user = r.text();
    const rooms = Array.from({ length: r.u32() }, () => r.text());
    const hasPayload = r.u8() !== 0;
    const format = r.u8();
    const payload = r.blob();
    return { number, verdict: { kind: "allowed", until, user, rooms, payload: hasPayload ? payload : null, format } };
  }
  const flags = r.u8();
  const close = r.u32();
  const error = r.text() as ErrorCode;
  const text = r.text();
  if (kind === 1) return { number, verdict: { kind: "denied", close, error, reason: text } };
  return { number, verdict: { kind: "unanswered", isAllowed: (flags & 1) !== 0, isFull: (flags & 2) !== 0, text } };
}
