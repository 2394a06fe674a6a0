/**
 * A small client of flux.v1 in JSON, as docs/protocol.md describes one, with what a client may do wrong behind a name.
 * The conformance kit has to pass it without a fault, and to find each fault.
 */
import { WebSocket } from "ws";

/** What the client does wrong. */
export type Fault =
  | "no hello" | "old version" | "no key" | "same id" | "dies of unknown events" | "binary on a text socket" | "no JSON" | "unknown field"
  | "delivers doubles" | "takes skipped numbers for a gap" | "delivers over a gap" | "hides gaps" | "ignores epochs" | "ignores sync" | "ignores published" | "drops replays"
  | "never connects again" | "never resumes" | "first session for ever" | "first token for ever" | "no positions" | "joins resumed rooms" | "joins without recover" | "believes every join"
  | "ignores reconnect" | "comes back at once" | "connects after every close" | "ends at 503" | "joins after left"
  | "never pings" | "never drops a silent socket" | "never refreshes" | "old token"
  | "never repeats" | "new key for repeats" | "repeats after duplicate" | "never retries" | "retries refusals" | "changes data"
  | "reads the first of an array"
  | "one page of members" | "ignores versions" | "never acknowledges" | "acknowledges too much";

type Frame = Record<string, any>;
type Position = { epoch: string; seq: number };
interface RoomState { position: Position | null; held: Frame[]; asking: boolean; replaying: boolean; joined: boolean }

export interface JsonClient {
  /** Settles when the client has closed for good. */
  readonly closed: Promise<void>;
  close(): void;
}

const rooms = ["conformance:room", "@inbox"];
const logRoom = "conformance:log";

export function startJsonClient(address: string, fault: Fault | "" = "", { graceMs = 60, backoffMs = 10 } = {}): JsonClient {
  let socket: WebSocket;
  let url = address;
  let ids = 0;
  let tokens = 0;
  let session: { session: string; token: string; ticket: string } | null = null;
  let window = { ms: 0, place: 0 };
  let goodbye: Frame | null = null;
  let isReady = false;
  let timer: NodeJS.Timeout | undefined;
  let heartbeat: NodeJS.Timeout | undefined;
  const replies = new Map<number, (reply: Frame) => void>();
  const states = new Map<string, RoomState>(rooms.map((room) => [room, { position: null, held: [], asking: false, replaying: false, joined: false }]));
  const outbox: { key: string; data: unknown }[] = [];
  const members = new Set<string>();
  let version = 0;
  let settle: () => void;
  const closed = new Promise<void>((resolve) => (settle = resolve));
  const is = (...faults: Fault[]) => (faults as string[]).includes(fault);

  // ------------------------------------------------------------ out

  function send(frame: Frame, onReply?: (reply: Frame) => void): void {
    const id = is("same id") && ids > 2 ? ids : ++ids;
    if (onReply) replies.set(id, onReply);
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id, ...frame }));
  }

  function log(data: unknown): void {
    const entry = { key: is("no key") ? "" : `k${Math.random()}`, data };
    outbox.push(entry);
    if (isReady) publish(entry);
  }

  function publish(entry: { key: string; data: unknown }): void {
    send({ publish: { room: logRoom, data: entry.data, key: entry.key } }, ({ error, published }) => {
      if ((error?.retryable && !is("never retries")) || (error && is("retries refusals"))) return void setTimeout(() => isReady && publish(entry), backoffMs);
      if (is("repeats after duplicate") && published?.duplicate) return publish(entry);
      outbox.splice(outbox.indexOf(entry), 1);
    });
  }

  // ------------------------------------------------------------ in and out

  function connect(): void {
    const from = session && !is("never resumes") ? `?resume=${session.ticket}` : "";
    let wasOpen = false;
    // Older nodes do not know the first of these, and take the second.
    socket = new WebSocket(url + from, ["flux.v1.json-arrays", "flux.v1.json"]);
    socket.on("open", () => {
      wasOpen = true;
      hello();
    });
    socket.on("message", (data: Buffer) => {
      watch();
      const message = JSON.parse(data.toString()) as Frame | Frame[];
      const frames = Array.isArray(message) ? message : [message];
      for (const frame of is("reads the first of an array") ? frames.slice(0, 1) : frames) onFrame(frame);
    });
    socket.on("error", () => {});
    socket.on("close", (code) => onClose(code, wasOpen));
  }

  function hello(): void {
    if (is("no hello")) return send({ join: { room: rooms[0] } });
    if (is("binary on a text socket")) return void socket.send(Buffer.from([0, 0, 0, 0]));
    if (is("no JSON")) return void socket.send("hello");
    if (tokens === 0) tokens = 1;
    const positions = [...states].flatMap(([room, { position, joined }]) => (position && joined && !is("no positions") ? [{ room, position: { epoch: position.epoch, seq: String(position.seq) } }] : []));
    const resume = session && !is("never resumes") ? { session: session.session, token: session.token, positions } : undefined;
    const more = is("unknown field") ? { wrongField: 1 } : {};
    send({ hello: { version: is("old version") ? 2 : 1, token: `t${tokens}`, client: "json-test", ...(resume && { resume }), ...more } }, ({ ready }) => {
      if (!(session && is("first session for ever"))) session = { session: ready.session, token: session && is("first token for ever") ? session.token : ready.resumeToken, ticket: ready.ticket };
      window = { ms: ready.returnWindowMs ?? 0, place: ready.returnPlace ?? 0 };
      isReady = true;
      beat = ready.heartbeatMs;
      watch();
      for (const [room, state] of states) {
        const isRestored = ready.resumed && ready.rooms.includes(room);
        if (isRestored ? is("joins resumed rooms") : !state.position || state.joined || is("joins after left")) join(room, state);
      }
      for (const entry of [...outbox]) {
        if (is("never repeats")) continue;
        if (is("new key for repeats")) entry.key = `k${Math.random()}`;
        publish(entry);
      }
      if (is("never repeats")) outbox.length = 0;
    });
  }

  function join(room: string, state: RoomState): void {
    state.joined = true;
    const recover = state.position && !is("joins without recover") ? { recover: { epoch: state.position.epoch, seq: String(state.position.seq) } } : {};
    const asked = state.position;
    send({ join: { room, ...recover } }, ({ joined }) => joined && onJoined(joined, state, asked));
  }

  function onJoined({ room, position, recovered, publications = [], more }: Frame, state: RoomState, asked: Position | null): void {
    const head = { epoch: position.epoch as string, seq: Number(position.seq) };
    // A gap ends where what is kept begins.
    const [first] = publications as Frame[];
    const end = first ? { epoch: first.epoch as string, seq: Number(first.prev) } : head;
    if (asked && !recovered && !is("believes every join")) skip(room, state, end);
    if (!asked) state.position = head;
    for (const one of publications) deliver(room, state, one);
    state.replaying = more ?? false;
    if (!more && recovered && state.position!.seq < head.seq) state.position = head;
    if (room === rooms[0] && !more) askMembers();
  }

  function onClose(code: number, wasOpen: boolean): void {
    isReady = false;
    clearTimeout(heartbeat);
    replies.clear();
    for (const state of states.values()) Object.assign(state, { held: [], asking: false, replaying: false });
    const isTerminal = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    if (code === 4999 || (isTerminal && !is("connects after every close")) || is("never connects again") || (!wasOpen && is("ends at 503"))) return settle();
    if (code === 3005 && !is("old token")) tokens++;
    let delay = Math.random() * backoffMs;
    const isNodeGone = [1006, 3001, 3012].includes(code) && wasOpen;
    if (goodbye && !is("ignores reconnect")) {
      delay = goodbye.delayMs ?? 0;
      if (goodbye.url) url = goodbye.url as string;
    } else if (isNodeGone && window.ms > 0) delay = (window.ms * window.place) / 65_536;
    goodbye = null;
    timer = setTimeout(connect, is("comes back at once") ? 0 : delay);
  }

  let beat = 0;
  function watch(): void {
    clearTimeout(heartbeat);
    if (beat === 0 || is("never pings")) return;
    heartbeat = setTimeout(() => {
      send({ ping: { time: "1" } });
      heartbeat = setTimeout(() => !is("never drops a silent socket") && socket.terminate(), graceMs);
    }, beat + graceMs);
  }

  // ------------------------------------------------------------ what comes

  function onFrame(frame: Frame): void {
    if (frame.id) {
      const onReply = replies.get(frame.id as number);
      replies.delete(frame.id as number);
      return onReply?.(frame);
    }
    const [kind, event] = Object.entries(frame)[0]! as [string, Frame];
    const state = states.get(event.room as string)!;
    switch (kind) {
      case "publication": return take(event.room, state, event);
      case "joined": return onJoined(event, state, state.position);
      case "replay": return onReplay(event, state);
      case "sync": return is("ignores sync") ? undefined : onSync(event, state);
      case "published": return onPublished(event, state);
      case "left": {
        state.joined = is("joins after left");
        return;
      }
      case "reconnect": {
        goodbye = event;
        return;
      }
      case "returnWindow": {
        window.ms = event.windowMs as number;
        return;
      }
      case "expiring": return is("never refreshes") ? undefined : refresh();
      case "presenceChanged": return onChange(event);
      default: if (is("dies of unknown events")) throwAway();
    }
  }

  function throwAway(): void {
    socket.close(4000, "unknown event");
  }

  function take(room: string, state: RoomState, publication: Frame): void {
    const { position } = state;
    const [seq, prev] = [Number(publication.seq), Number(publication.prev)];
    if (state.asking) return void state.held.push(publication);
    if (position && publication.epoch !== position.epoch && !is("ignores epochs")) {
      skip(room, state, { epoch: publication.epoch as string, seq: prev });
      return deliver(room, state, publication);
    }
    if (position && seq <= position.seq && !is("delivers doubles")) return;
    const isBehind = is("takes skipped numbers for a gap") ? seq > position!.seq + 1 : prev > position!.seq;
    if (!isBehind || is("delivers over a gap")) return deliver(room, state, publication);
    state.held.push(publication);
    repair(room, state, prev);
  }

  function repair(room: string, state: RoomState, to: number): void {
    state.asking = true;
    const { epoch, seq } = state.position!;
    send({ history: { room, since: { epoch, seq: String(seq) } } }, ({ history, error }) => {
      state.asking = false;
      for (const one of history?.publications ?? []) if (Number(one.seq) <= to) deliver(room, state, one);
      if (error || state.position!.seq < to) skip(room, state, { epoch, seq: to });
      for (const one of state.held.splice(0)) take(room, state, one);
    });
  }

  function onReplay({ room, publications, more }: Frame, state: RoomState): void {
    if (is("drops replays")) return;
    for (const one of publications) take(room, state, one);
    if (state.replaying && !more && room === rooms[0]) askMembers();
    state.replaying = more;
  }

  function onSync({ room, position }: Frame, state: RoomState): void {
    const head = { epoch: position.epoch as string, seq: Number(position.seq) };
    if (state.position!.seq < head.seq) repair(room, state, head.seq);
    state.replaying = false;
  }

  function onPublished({ position, prev }: Frame, state: RoomState): void {
    if (!is("ignores published") && Number(prev) === state.position!.seq) state.position = { epoch: position.epoch as string, seq: Number(position.seq) };
  }

  function deliver(room: string, state: RoomState, { epoch, seq, data }: Frame): void {
    if (state.position?.epoch === epoch && Number(seq) <= state.position!.seq && !is("delivers doubles")) return;
    state.position = { epoch: epoch as string, seq: Number(seq) };
    if (room === rooms[0]) return log({ publication: seq, data: is("changes data") ? String(data) : data });
    log({ message: seq });
    if (!is("never acknowledges")) send({ ack: { position: { epoch, seq: String(Number(seq) + (is("acknowledges too much") ? 5 : 0)) } } });
  }

  function skip(_: string, state: RoomState, to: Position): void {
    if (!is("hides gaps")) log({ gap: { from: state.position!.seq, to: to.seq } });
    state.position = to;
  }

  function refresh(): void {
    if (!is("old token")) tokens++;
    send({ refresh: { token: `t${tokens}` } }, ({ refreshed }) => {
      if (refreshed && !is("first token for ever")) session = { ...session!, token: refreshed.resumeToken as string };
    });
  }

  function askMembers(after = ""): void {
    send({ presence: { room: rooms[0], after } }, ({ presence }) => {
      if (after === "") members.clear();
      for (const { user } of presence.members) members.add(user as string);
      version = presence.version as number;
      if (presence.next && !is("one page of members")) return askMembers(presence.next as string);
      log({ members: [...members] });
    });
  }

  function onChange(change: Frame): void {
    const isNext = change.version === version + 1;
    version = change.version as number;
    if (!isNext && !is("ignores versions")) return askMembers();
    for (const user of change.joined) members.add(user as string);
    for (const user of change.left) members.delete(user as string);
    log({ members: [...members] });
  }

  connect();
  return {
    closed,
    close: () => {
      clearTimeout(timer);
      clearTimeout(heartbeat);
      socket.removeAllListeners("close");
      socket.terminate();
    },
  };
}
