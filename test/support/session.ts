/**
 * A small flux.v1 client for tests, binary or JSON, straight on the raw socket. It shares the generated
 * messages with the node but neither its codecs nor the SDK, so that it checks what is on the wire.
 */
import { Format, type ClientFrame, type ServerFrame } from "../../src/protocol/messages.ts";
import { opcodes, openRawSocket, within, type Ending, type RawOptions, type RawSocket } from "./rawsocket.ts";
import { binaryReader, encodeBinary, encodeText, readText, readTexts } from "./wire.ts";

export interface SeenPosition {
  epoch: string;
  seq: number;
}

export interface SeenPublication extends SeenPosition {
  room: string;
  prev: number;
  sender: string;
  time: number;
  payload: Buffer;
  format: number;
  /** How it came: live, in a replay event, or with joined. */
  by: "publication" | "replay" | "joined";
}

/** What joined said, with everything that came with it and in the replay events behind it. */
export interface Joining {
  position: SeenPosition;
  recovered: boolean;
  missed: SeenPublication[];
}

/** A command as the tests write it: the frame without its id. */
export type Command = Omit<ClientFrame, "id" | "command">;
export type Reply = ServerFrame;

export interface OpenOptions extends Partial<RawOptions> {
  /** "arrays": flux.v1.json-arrays. */
  json?: boolean | "arrays";
  /** Fields of hello; null: say nothing after the upgrade. */
  hello?: Partial<NonNullable<ClientFrame["hello"]>> | null;
  /** Whether pings of the node are answered. Default: yes. */
  pong?: boolean;
  /** Whether events and publications are kept, or only passed to the listeners. Default: yes. */
  keep?: boolean;
}

export interface PublishOptions {
  key?: string;
  excludeSelf?: boolean;
  /** Default: JSON for strings, which must be JSON text, BINARY for bytes. */
  format?: number;
}

export interface TestSession {
  readonly raw: RawSocket;
  readonly json: boolean;
  /** The reply to hello, if one was sent. */
  readonly ready: ServerFrame["ready"];
  /** Everything the node sent, replies too, in order. */
  readonly events: Reply[];
  readonly publications: SeenPublication[];
  /** Sends a command that wants a reply, and waits for it; an error is a reply like any other. */
  request(command: Command): Promise<Reply>;
  /** Sends a command under the given id (0: no reply wanted). */
  send(command: Command, id?: number): Promise<void>;
  /** Sends bytes or a text as one message, whatever they are. */
  sendMessage(message: Uint8Array | string): Promise<void>;
  /** Joins and waits for the last page of the recovery; fails on an error reply. */
  join(room: string, options?: { recover?: SeenPosition; history?: number }): Promise<Joining>;
  leave(room: string): Promise<Reply>;
  /** Publishes and waits for the position; fails on an error reply. */
  publish(room: string, payload: Uint8Array | string, options?: PublishOptions): Promise<SeenPosition>;
  /** Called for every frame of the node as it arrives, before the publications in it. */
  onEvent(listener: (event: Reply) => void): void;
  onPublication(listener: (publication: SeenPublication) => void): void;
  /** Waits until the predicate holds; it is asked again after every frame. */
  waitFor(predicate: () => boolean, what?: string): Promise<void>;
  /** Waits for something, no longer than the socket lives. */
  whileOpen<T>(promise: Promise<T>, what: string): Promise<T>;
  closed(): Promise<Ending>;
  /** Says bye and waits for the close. */
  bye(): Promise<Ending>;
}

/** Connects to the node, says hello and waits for ready. */
export async function open(node: { port: number }, options: OpenOptions = {}): Promise<TestSession> {
  const { json = false, hello, pong = true, keep = true, ...rawOptions } = options;
  const subprotocol = json === "arrays" ? "flux.v1.json-arrays" : json ? "flux.v1.json" : "flux.v1.proto";
  const raw = await openRawSocket({ port: node.port, subprotocol, ...rawOptions });
  return greet(talking(raw, json, pong, keep), hello);
}

/** The same over raw TCP (rawtcp.ts). */
export async function openOn(raw: RawSocket, { hello, keep = true }: Pick<OpenOptions, "hello" | "keep"> = {}): Promise<TestSession> {
  return greet(talking(raw, false, false, keep), hello);
}

async function greet(session: TestSession, hello: OpenOptions["hello"]): Promise<TestSession> {
  if (hello === null) return session;
  const reply = await session.request({ hello: { version: 1, client: "test", ...hello } });
  if (!reply.ready) throw new Error(`hello was answered ${JSON.stringify(reply)}`);
  return Object.assign(session, { ready: reply.ready });
}

export function seen(position: { epoch?: string | null; seq?: number | null } | null | undefined): SeenPosition {
  return { epoch: position?.epoch ?? "", seq: position?.seq ?? 0 };
}

/** What the node says, kept, passed on and waited for. */
interface Hearing extends Pick<TestSession, "events" | "publications" | "waitFor" | "whileOpen"> {
  readonly eventListeners: Set<(event: Reply) => void>;
  readonly publicationListeners: Set<(publication: SeenPublication) => void>;
  /** The reply to the command with this id. */
  reply(id: number): Promise<Reply>;
}

function hearing(raw: RawSocket, json: boolean | "arrays", pong: boolean, keep: boolean): Hearing {
  const events: Reply[] = [];
  const publications: SeenPublication[] = [];
  const eventListeners = new Set<(event: Reply) => void>();
  const publicationListeners = new Set<(publication: SeenPublication) => void>();
  const replies = new Map<number, (reply: Reply) => void>();
  const checks = new Set<() => void>();
  const read = json === "arrays" ? readTexts : json ? readText : binaryReader();

  const onEvent = (event: Reply): void => {
    const carried = publicationsOf(event);
    if (keep) {
      events.push(event);
      publications.push(...carried);
    }
    for (const listener of eventListeners) listener(event);
    for (const publication of carried) for (const listener of publicationListeners) listener(publication);
    if (event.id) replies.get(event.id)?.(event);
    for (const check of [...checks]) check();
  };
  raw.onFrame((frame) => {
    if (frame.opcode === opcodes.ping && pong) void raw.send({ opcode: opcodes.pong, payload: frame.payload });
    if (frame.opcode === (json ? opcodes.text : opcodes.binary)) read(frame.payload).forEach(onEvent);
  });

  const whileOpen = async <T>(promise: Promise<T>, what: string): Promise<T> => {
    const over = raw.ended.then((ending): never => {
      throw new Error(`the socket ended (${JSON.stringify(ending)}) before ${what}`);
    });
    return within(Promise.race([promise, over]), what);
  };
  return {
    events, publications, eventListeners, publicationListeners, whileOpen,
    waitFor: (predicate, what = "an event") => {
      const met = new Promise<void>((resolve) => {
        const check = (): void => {
          if (!predicate()) return;
          checks.delete(check);
          resolve();
        };
        checks.add(check);
        check();
      });
      return whileOpen(met, what);
    },
    reply: (id) => new Promise<Reply>((resolve) => {
      replies.set(id, (reply) => {
        replies.delete(id);
        resolve(reply);
      });
    }),
  };
}

function talking(raw: RawSocket, json: boolean | "arrays", pong: boolean, keep: boolean): TestSession {
  const heard = hearing(raw, json, pong, keep);
  const { eventListeners, publicationListeners, waitFor, whileOpen } = heard;
  let lastId = 0;

  const sendMessage = (message: Uint8Array | string): Promise<void> =>
    raw.send({ opcode: typeof message === "string" ? opcodes.text : opcodes.binary, payload: message });
  const send = (command: Command, id = 0): Promise<void> =>
    sendMessage(json ? encodeText({ ...command, id }) : encodeBinary({ ...command, id }));
  const request = async (command: Command): Promise<Reply> => {
    const id = ++lastId;
    const reply = heard.reply(id);
    await send(command, id);
    return whileOpen(reply, `the reply to ${Object.keys(command).join()}`);
  };
  const join: TestSession["join"] = async (room, options = {}) => {
    const missed: SeenPublication[] = [];
    let complete = false;
    const collect = (event: Reply): void => {
      const page = event.joined ?? event.replay;
      if (page?.room !== room || complete) return;
      missed.push(...publicationsOf(event));
      complete = !page.more;
    };
    eventListeners.add(collect);
    const { joined, error } = await request({ join: { room, ...options } });
    if (!joined) throw new Error(`join ${room} was refused: ${error?.code}: ${error?.text}`);
    await waitFor(() => complete, "the last page of the recovery");
    eventListeners.delete(collect);
    return { position: seen(joined.position), recovered: joined.recovered ?? false, missed };
  };

  return {
    raw, json: json !== false, events: heard.events, publications: heard.publications, ready: undefined,
    send, sendMessage, request, waitFor, whileOpen, join,
    leave: (room) => request({ leave: { room } }),
    publish: async (room, payload, options = {}) => {
      const format = options.format ?? (typeof payload === "string" ? Format.JSON : Format.BINARY);
      const { published, error } = await request({ publish: { room, payload: Buffer.from(payload), ...options, format } });
      if (!published) throw new Error(`publish to ${room} was refused: ${error?.code}: ${error?.text}`);
      return seen(published.position);
    },
    onEvent: (listener) => void eventListeners.add(listener),
    onPublication: (listener) => void publicationListeners.add(listener),
    closed: () => raw.closed(),
    bye: async () => {
      await send({ bye: {} });
      return raw.closed();
    },
  };
}

/** The code a hello is closed with, "dropped" where there was no close, or "ready". */
export async function fate(node: { port: number }, hello: OpenOptions["hello"]): Promise<number | string> {
  const session = await open(node, { hello: null });
  await session.send({ hello: { version: 1, ...hello } }, 1);
  const ready = session.waitFor(() => session.events.some((event) => event.ready != null)).then(() => true, () => false);
  if (await ready) return "ready";
  const ending = await session.closed();
  return ending === "dropped" ? ending : ending.code;
}

function publicationsOf(event: Reply): SeenPublication[] {
  const by = event.publication ? "publication" : event.replay ? "replay" : "joined";
  const carried = event.publication ? [event.publication] : (event.replay ?? event.joined)?.publications ?? [];
  const room = (event.replay ?? event.joined)?.room;
  return carried.map((publication) => ({
    room: publication.room || room || "",
    ...seen(publication),
    prev: publication.prev ?? 0,
    sender: publication.sender ?? "",
    time: publication.time ?? 0,
    payload: Buffer.from(publication.payload ?? []),
    format: publication.format ?? Format.BINARY,
    by,
  }));
}
