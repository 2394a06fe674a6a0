/**
 * flux.v1 in its binary subprotocol. The project's codec encodes commands. Events are read by hand: a decoder that
 * creates objects cannot follow two million publications a second. An independent reader also detects errors of the
 * codec.
 */
import { decodeServerFrame, encodeClientFrame } from "../../src/protocol/codec.ts";
import { threadId } from "node:worker_threads";
import { frame } from "../../src/protocol/framing.ts";
import { Format, ServerFrame, type ClientFrame, type Joined, protocolVersion, type Publication, type Ready, subprotocols } from "../../src/protocol/messages.ts";
import type { Conversation, Ear, Role } from "./conversation.ts";
import { binaryPayload, largePayloadBytes, payloadBytes, readUint32, writePayload } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { tokenFor } from "./token.ts";
import { opcodes } from "./websocket.ts";

/** Ephemeral, like the rooms of the controls. */
const room = "live:bench";
/** In a namespace of that row, where anyone may publish. */
const loggedRoom = "logged:bench";
/** For the roles resumer and reader. */
const durableRoom = "chat:bench";
/** Wait before a rejected publish is repeated. */
const retryMs = 100;

export class FluxConversation implements Conversation {
  readonly subprotocol = subprotocols.binary;
  readonly #index: number;
  readonly #role: Role;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;
  #seq = 0;
  /** Last counter sent, for a publisher. */
  #published = 0;
  #publishedAt = 0;
  #ownToken = "";
  #session: Session | null = null;
  resumed = 0;
  /** Unacknowledged publishes of a resumer. It sends one at a time, like a client that keeps its order. */
  /** A mailer's message to itself. */
  #mail: Template | null = null;
  readonly #unsent: { counter: number; sentAt: number }[] = [];
  /** Start of a frame that continues in a later message. */
  #split: Buffer | null = null;

  constructor(index: number, role: Role, ear: Ear) {
    this.#index = index;
    this.#role = role;
    this.#ear = ear;
  }

  /** A reconnecting client sends its ticket. */
  get path(): string {
    return this.#session === null ? "/ws" : `/ws?resume=${this.#session.ticket}`;
  }

  get unacknowledged(): number {
    return this.#unsent.length;
  }

  get #payloadBytes(): number {
    return this.#role === "reader" ? largePayloadBytes : payloadBytes;
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
    this.#split = null;
    socket.send(opcodes.binary, this.#session === null ? this.#firstWords() : this.#resume(this.#session));
  }

  #firstWords(): Uint8Array {
    const hello = encodeClientFrame({ id: 1, hello: { version: protocolVersion, client: "flux-bench", token: this.#token() } });
    if (this.#role === "mailer") return Buffer.concat([hello, joinInbox]);
    return this.#role === "echo" || this.#role === "publisher" ? hello : Buffer.concat([hello, this.#role === "member" || this.#role === "excluder" ? join : this.#role === "listener" ? joinLogged : joinDurable]);
  }

  #resume({ session, token, epoch }: Session): Uint8Array {
    const positions = [{ room: durableRoom, position: { epoch, seq: this.#seq } }];
    const resume = { session, token, positions };
    return encodeClientFrame({ id: 1, hello: { version: protocolVersion, client: "flux-bench", token: this.#token(), resume } });
  }

  /** Always the same, since a client keeps its token. A mailer is anonymous: its node names a user that belongs there. */
  #token(): string {
    if (this.#role === "mailer") return "";
    return (this.#ownToken ||= tokenFor(`bench-${process.pid}-${threadId}-${this.#index}`));
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.binary) throw new Error("not a binary message");
    if (this.#split === null) return this.#cut(bytes, start, end);
    const joined = Buffer.concat([this.#split, bytes.subarray(start, end)]);
    this.#split = null;
    this.#cut(joined, 0, joined.length);
  }

  publish(counter: number, sentAt: number): void {
    if (this.#role === "publisher" || this.#role === "mailer") {
      this.#published = counter;
      this.#publishedAt = sentAt;
      return this.#sendPayload(this.#mail ?? publishLogged, counter, sentAt);
    }
    if (this.#role === "resumer") {
      if (this.#unsent.push({ counter, sentAt }) === 1) this.#sendFirst();
      return;
    }
    this.#sendPayload(this.#role === "reader" ? publishLarge : this.#role === "excluder" ? publishExcluding : publishTemplate, counter, sentAt);
  }

  #sendFirst(): void {
    const first = this.#unsent[0];
    if (first !== undefined) this.#sendPayload(publishDurable, first.counter, first.sentAt);
  }

  echo(counter: number, sentAt: number): void {
    this.#sendPayload(echoTemplate, counter, sentAt);
  }

  #sendPayload(template: Template, counter: number, sentAt: number): void {
    writePayload(template.bytes, template.payloadAt, counter, sentAt);
    this.#socket?.send(opcodes.binary, template.bytes);
  }

  #cut(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (end - at >= 4) {
      const next = at + 4 + readUint32(bytes, at);
      if (next > end) break;
      this.#frame(bytes, at + 4, next);
      at = next;
    }
    if (at !== end) this.#split = Buffer.from(bytes.subarray(at, end));
  }

  #frame(bytes: Buffer, start: number, end: number): void {
    readFrame(bytes, start, end, read);
    // What counts is that it was acknowledged.
    if (this.#role === "mailer" && read.event === events.publication) return;
    if (read.event === events.publication) {
      const chained = read.prev === this.#seq;
      this.#seq = read.seq;
      this.#deliver(bytes, chained);
    } else if (read.event === events.echo) this.#deliver(bytes, true);
    else if (read.event === events.sent || (read.event === events.published && this.#role === "publisher")) {
      this.#ear.delivered(this.#index, this.#published, this.#publishedAt, true);
    } else if (read.event === events.published) {
      this.#unsent.shift();
      this.#sendFirst();
    } else this.#rareFrame(bytes, start, end);
  }

  #deliver(bytes: Buffer, chained: boolean): void {
    if (read.payloadBytes !== this.#payloadBytes) throw new Error("unknown payload");
    this.#ear.delivered(this.#index, readUint32(bytes, read.payloadAt), readUint32(bytes, read.payloadAt + 4), chained);
  }

  #rareFrame(bytes: Buffer, start: number, end: number): void {
    const { ready, joined, replay, error } = decodeServerFrame(bytes, start, end);
    if (ready) this.#onReady(ready);
    if (joined) this.#onJoined(joined);
    if (replay) this.#onMissed(replay.publications ?? []);
    if (error?.retryable === true && this.#unsent.length > 0) setTimeout(() => this.#sendFirst(), retryMs);
    else if (error) this.#ear.refused(this.#index, `${error.code}: ${error.text}`);
  }

  #onReady({ session, resumeToken, resumed, ticket, user }: Ready): void {
    if (this.#role === "mailer") this.#mail = template({ id: 3, send: { user: user ?? "", payload: binaryPayload(), format: Format.BINARY } });
    if (resumed) this.resumed++;
    if (this.#role === "resumer") this.#session = { session: session ?? "", token: resumeToken ?? "", ticket: ticket ?? "", epoch: "" };
    if (this.#role === "echo" || this.#role === "publisher") this.#ear.ready(this.#index);
  }

  #onJoined({ position, recovered, publications }: Joined): void {
    if (this.#session !== null) this.#session.epoch = position?.epoch ?? "";
    if (recovered) this.#onMissed(publications ?? []);
    else this.#seq = position?.seq ?? 0;
    this.#ear.ready(this.#index);
  }

  #onMissed(publications: readonly Publication[]): void {
    for (const { seq, prev, payload } of publications) {
      const chained = prev === this.#seq;
      this.#seq = seq ?? 0;
      if (payload?.length !== this.#payloadBytes) throw new Error("unknown payload");
      this.#ear.delivered(this.#index, readUint32(payload, 0), readUint32(payload, 4), chained);
    }
  }
}

/** State that a resumer needs to resume. */
type Session = { session: string; token: string; ticket: string; epoch: string };

/** Result of readFrame: one record, overwritten by the next frame. */
export type Read = { event: number; seq: number; prev: number; payloadAt: number; payloadBytes: number };

/** Field numbers of ServerFrame's oneof. */
export const events = { published: 5, echo: 8, publication: 10, sent: 14 } as const;

const wireTypes = { varint: 0, delimited: 2 } as const;

/** Reads the kind of a ServerFrame, and the checked fields of publications and echoes. */
export function readFrame(bytes: Uint8Array, start: number, end: number, into: Read): void {
  into.event = into.seq = into.prev = into.payloadAt = into.payloadBytes = 0;
  cursor = start;
  while (cursor < end) {
    const tag = readVarint(bytes, end);
    if ((tag & 7) === wireTypes.varint) readVarint(bytes, end);
    else {
      const bodyEnd = readDelimiter(bytes, tag, end);
      into.event = tag >>> 3;
      if (into.event === events.publication) readFields(bytes, bodyEnd, 7, into);
      else if (into.event === events.echo) readFields(bytes, bodyEnd, 1, into);
      cursor = bodyEnd;
    }
  }
}

/** Publication: seq = 3, prev = 4, payload = 7. Echo: payload = 1, and no varint that looks like seq. */
function readFields(bytes: Uint8Array, end: number, payloadField: number, into: Read): void {
  while (cursor < end) {
    const tag = readVarint(bytes, end);
    const field = tag >>> 3;
    if ((tag & 7) === wireTypes.varint) {
      const value = readVarint(bytes, end);
      if (field === 3) into.seq = value;
      else if (field === 4) into.prev = value;
    } else {
      const fieldEnd = readDelimiter(bytes, tag, end);
      if (field === payloadField) {
        into.payloadAt = cursor;
        into.payloadBytes = fieldEnd - cursor;
      }
      cursor = fieldEnd;
    }
  }
}

/** Position of the readers below. A module variable, so that they return only one value. */
let cursor = 0;

function readVarint(bytes: Uint8Array, end: number): number {
  let value = 0;
  let scale = 1;
  while (cursor < end) {
    const byte = bytes[cursor++]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  throw new Error("a varint is cut off");
}

function readDelimiter(bytes: Uint8Array, tag: number, end: number): number {
  if ((tag & 7) !== wireTypes.delimited) throw new Error(`a field has wire type ${tag & 7}`);
  const length = readVarint(bytes, end);
  if (cursor + length > end) throw new Error("a field is longer than its message");
  return cursor + length;
}

const read: Read = { event: 0, seq: 0, prev: 0, payloadAt: 0, payloadBytes: 0 };

/** An encoded command, of which only the first eight bytes of the payload change. */
type Template = { bytes: Uint8Array; payloadAt: number };

function template(command: ClientFrame): Template {
  const bytes = encodeClientFrame(command);
  return { bytes, payloadAt: Buffer.from(bytes).indexOf(binaryPayload()) }; // a large payload starts like a small one
}

const join = encodeClientFrame({ id: 2, join: { room } });
const joinDurable = encodeClientFrame({ id: 2, join: { room: durableRoom } });
const joinLogged = encodeClientFrame({ id: 2, join: { room: loggedRoom } });
const joinInbox = encodeClientFrame({ id: 2, join: { room: "@inbox" } });
const publishDurable = template({ id: 3, publish: { room: durableRoom, payload: binaryPayload(), format: Format.BINARY } });
const publishLarge = template({ publish: { room: durableRoom, payload: binaryPayload(largePayloadBytes), format: Format.BINARY } });
/** id 0: no reply, since the controls send none. */
const publishTemplate = template({ publish: { room, payload: binaryPayload(), format: Format.BINARY } });
const publishExcluding = template({ publish: { room, payload: binaryPayload(), format: Format.BINARY, excludeSelf: true } });
/** With a reply: the row waits for the acknowledgement. */
const publishLogged = template({ id: 3, publish: { room: loggedRoom, payload: binaryPayload(), format: Format.BINARY } });
const echoTemplate = template({ id: 3, echo: { payload: binaryPayload(), format: Format.BINARY } });

/** Size of a control's message: as large as a publication in the middle of a measurement. */
export const binaryEventBytes = frame(ServerFrame.encode({
  publication: { room, epoch: "0FAtMtJy", seq: 12_345, prev: 12_344, sender: "bench-12345-1-999", time: 1_795_323_651_843, payload: binaryPayload(), format: Format.BINARY },
}).finish()).length;
