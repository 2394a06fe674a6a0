/**
 * One room from the protocol's side: join, leave, rejoin after a reconnect. room.ts is the application's view of it.
 */
import type { ClientFrame, Joined, PresenceChanged, Published, ServerFrame } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Cancel } from "../clock.ts";
import type { OnReply } from "../connection/commands.ts";
import { Emitter } from "../emitter.ts";
import { FluxError, fluxError } from "../flux-error.ts";
import { Outbox } from "./outbox.ts";
import type { OutboxShared } from "./outbox.ts";
import { Members } from "./presence.ts";
import type { MembersOwner } from "./presence.ts";
import { inboxName, toArrival, toPosition, toPublication } from "./publication.ts";
import type { Arrival, Position, Publication } from "./publication.ts";
import { Stream } from "./stream.ts";
import type { Gap, Recovered, StreamOwner } from "./stream.ts";

/** How a room was joined. */
export type JoinedRoom = {
  /** Position of the newest publication at the moment of joining. */
  readonly position: Position;
  /** Everything that was missed since the last known position follows. */
  readonly recovered: boolean;
  /** This is not the first time: the socket had been lost, or the page was reloaded. */
  readonly rejoined: boolean;
};

export type RoomEvents<Data = unknown> = {
  /** A publication, live or recovered (`replayed`). */
  publication: Publication<Data>;
  /** The room is joined, the first time or again. */
  joined: JoinedRoom;
  /** The publications that were missed have been delivered. */
  recovered: Recovered;
  /** Publications are lost to this client: the history no longer has them. */
  gap: Gap;
  /** Recovery is complete. Publications now arrive as they are published. */
  live: Position;
  /** Something failed that no promise reports. */
  error: FluxError;
  /** The room is left: by `leave()` (null), or because the node refused. */
  left: FluxError | null;
};

export type MembershipOptions = {
  room: string;
  recover: Position | null;
  /** An earlier page was in the room up to `recover`: `history` asks for the publications before it. */
  goesOn: boolean;
  history: number;
  heldMax: number;
};

export type MembershipOwner = {
  sendNow(command: ClientFrame, onReply: OnReply): void;
  /** Sends when the node's rate allows it, unless it is not wanted by then. */
  send(command: ClientFrame, onReply: OnReply, timeoutMs?: null, isWanted?: () => boolean): void;
  outbox: OutboxShared;
  onLeft(): void;
};

/**
 * restoring: the node rejoins the rooms of a resumed session by itself. earlier: joined, but history is delivered
 * first.
 */
type State = "away" | "joining" | "restoring" | "earlier" | "joined" | "left";

const retryBackoff = { baseMs: 200, capMs: 5000 };
const historyTriesMax = 5;
/** Publications per read when a gap is repaired. */
const repairPage = 100;

export class Membership implements StreamOwner {
  readonly emitter = new Emitter<RoomEvents>();
  readonly outbox: Outbox;
  /** Settles with the first `joined`, or with the node's refusal. */
  readonly firstJoined: Promise<JoinedRoom>;
  readonly #options: MembershipOptions;
  readonly #owner: MembershipOwner;
  readonly #stream: Stream;
  #state: State = "away";
  #asks = 0;
  #hasJoined: boolean;
  /** Number of publications to fetch from before the earlier page's position, until they are fetched. */
  #earlier: number;
  /** Frames that arrived meanwhile, and how to continue with them. */
  #held: ServerFrame[] = [];
  #goOn: (() => void) | null = null;
  /** Members objects that the application uses. */
  readonly #lists = new Set<Members>();
  #settleFirst: { resolve: (joined: JoinedRoom) => void; reject: (error: FluxError) => void } | null = null;
  #cancelRetry: Cancel | null = null;

  constructor(options: MembershipOptions, owner: MembershipOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#stream = new Stream(options.recover, options.heldMax, this);
    this.#hasJoined = options.goesOn;
    this.#earlier = options.goesOn ? options.history : 0;
    this.outbox = new Outbox(owner.outbox, (published) => this.#own(published));
    this.firstJoined = new Promise((resolve, reject) => (this.#settleFirst = { resolve, reject }));
    this.firstJoined.catch(() => {}); // applications that do not await it use the events
  }

  get position(): Position | null {
    return this.#stream.position;
  }

  /** The client is in the room. */
  get isJoined(): boolean {
    return this.#state === "joined" || this.#state === "earlier";
  }

  /** The client is in the room, and no missed publication is on its way. */
  get isLive(): boolean {
    return this.#state === "joined" && this.#stream.isLive;
  }

  // ------------------------------------------------------------ who is there

  members(usersMax: number, onStop: () => void): Members {
    const { clock, random } = this.#owner.outbox;
    const send: MembersOwner["send"] = (command, onReply) => this.#owner.send(command, onReply);
    const members = new Members(this.#options.room, usersMax, { send, clock, random, onStop: () => void (this.#lists.delete(members), onStop()) });
    this.#lists.add(members);
    if (this.isLive) members.live();
    return members;
  }

  // ------------------------------------------------------------ in and out

  /** Called when there is a session: joins, unless a join is in progress. */
  join(): void {
    if (this.#state === "away") this.#ask(0);
  }

  /** Called when a session was resumed: the node rejoins the room from our position. */
  restore(): void {
    if (this.#state === "away") this.#state = "restoring";
  }

  #ask(attempt: number): void {
    const { room, history } = this.#options;
    const asked = this.position;
    const number = ++this.#asks;
    const isWanted = () => this.#state === "joining" && this.#asks === number;
    this.#state = "joining";
    // With a position, only an older node uses `history`: where it cannot recover.
    this.#owner.send({ join: { room, history, ...(asked && { recover: asked }) } }, (answer) => {
      if (!isWanted()) return;
      if ("reply" in answer) this.#onJoined(answer.reply.joined ?? {}, asked);
      else if (!answer.error.retryable) this.end(answer.error);
      // Also at once, where a listener has left the session.
      else if (answer.error.code === "disconnected") this.#state = "away";
      else this.#retry(attempt, () => this.#ask(attempt + 1));
    }, null, isWanted);
  }

  /** The session is lost. */
  interrupt(): void {
    this.#state = "away";
    this.#cancelRetry?.();
    this.#held = [];
    this.#stream.interrupt();
    this.outbox.interrupt();
    for (const members of this.#lists) members.interrupt();
  }

  async leave(): Promise<void> {
    if (this.#state === "left") return;
    const wasIn = this.#state !== "away";
    this.end(null);
    if (!wasIn) return;
    await new Promise<void>((resolve) => this.#owner.sendNow({ leave: { room: this.#options.room } }, () => resolve()));
  }

  /** @param error null: the application left the room. */
  end(error: FluxError | null): void {
    if (this.#state === "left") return;
    this.#state = "left";
    this.#cancelRetry?.();
    this.#stream.interrupt();
    for (const members of this.#lists) members.interrupt();
    this.outbox.end(error ?? fluxError("left"), error?.code === "closed");
    this.#settleFirst?.reject(error ?? fluxError("left"));
    this.#owner.onLeft();
    if (error !== null) this.emitter.emit("error", error);
    this.emitter.emit("left", error);
  }

  #onJoined(joined: Joined, asked: Position | null): void {
    const position = toPosition(joined.position);
    const event: JoinedRoom = { position, recovered: joined.recovered ?? false, rejoined: this.#hasJoined };
    // An inbox begins behind what this device has acknowledged, or with the oldest message. So it is a recovery.
    const from = asked ?? (this.#options.room === inboxName && !event.recovered ? { epoch: position.epoch, seq: 0 } : null);
    // If a listener leaves the session, the room goes on from here.
    const start = from === null ? startOf(joined) : null;
    if (start !== null) this.#stream.enter(start);
    this.#hasJoined = true;
    this.#state = this.#earlier > 0 ? "earlier" : "joined";
    this.emitter.emit("joined", event);
    this.#settleFirst?.resolve(event);
    if (!this.isJoined) return; // a listener left the room, or the node
    this.#stream.begin(position, from, event.recovered);
    // What is kept follows, and nothing is older.
    if (this.#earlier === 0 || (asked !== null && !event.recovered)) return this.#goOnWith(joined);
    const goOn = () => this.#goOnWith(joined);
    this.#goOn = goOn;
    this.#readEarlier(asked ?? position, position, goOn);
  }

  #goOnWith({ publications, more }: Joined): void {
    if (!this.isJoined) return;
    this.#state = "joined";
    this.#earlier = 0;
    this.#goOn = null;
    this.#stream.replay((publications ?? []).map(toArrival), more ?? false);
    for (const event of this.#held.splice(0)) this.onEvent(event);
    if (this.isJoined) this.outbox.open();
  }

  /** Delivers publications up to `last`, which an earlier page had received: this page shows nothing yet. */
  #readEarlier(last: Position, head: Position, goOn: () => void): void {
    // Before the head there is no position to name; later publications are filtered out below.
    const before = last.seq < head.seq ? { before: { epoch: last.epoch, seq: last.seq + 1 } } : {};
    this.#owner.send({ history: { room: this.#options.room, limit: this.#earlier, ...before } }, (answer) => {
      if (this.#goOn !== goOn || this.#state !== "earlier") return;
      if ("error" in answer && answer.error.code === "disconnected") return;
      // Optional: if it fails, the room goes on without these publications.
      const publications = "reply" in answer ? (answer.reply.history?.publications ?? []) : [];
      this.#earlier = 0; // they are not given again, should a listener leave the session meanwhile
      for (const arrival of publications.map(toArrival)) if (arrival.seq <= last.seq) this.deliver(arrival, true);
      goOn();
    });
  }

  #retry(attempt: number, again: () => void): void {
    const { clock, random } = this.#owner.outbox;
    this.#cancelRetry = clock.after(backoffMs(attempt, retryBackoff, random), again);
  }

  // ------------------------------------------------------------ what comes unasked

  onEvent(event: ServerFrame): void {
    switch (this.#state) {
      case "restoring": return this.#onRestored(event);
      case "earlier": return this.#hold(event);
      case "joined": return this.#onLive(event);
      default: // the end of an earlier membership
    }
  }

  #onRestored({ joined, left }: ServerFrame): void {
    if (joined) this.#onJoined(joined, this.position);
    else if (left?.reason === "removed") this.end(fluxError("removed"));
    else if (left) this.#ask(0); // the node could not rejoin; its answer to a join gives the reason
  }

  #hold(event: ServerFrame): void {
    if (event.left) return this.#onLive(event);
    this.#held.push(event);
    // If too much arrives, newer publications matter more than older ones.
    if (this.#held.length > this.#options.heldMax) this.#goOn?.();
  }

  #onLive(event: ServerFrame): void {
    if (event.publication) this.#stream.publication(toArrival(event.publication));
    else if (event.replay) this.#stream.replay((event.replay.publications ?? []).map(toArrival), event.replay.more ?? false);
    else if (event.sync) this.#stream.sync(toPosition(event.sync.position));
    else if (event.published) this.#own(event.published);
    else if (event.presenceChanged) this.#onPresence(event.presenceChanged);
    else if (event.left) this.end(event.left.reason === "removed" ? fluxError("removed") : fluxError("not_joined", "the node has ended this membership"));
  }

  #own({ position, prev }: Published): void {
    this.#stream.own(toPosition(position), prev ?? undefined);
  }

  #onPresence(change: PresenceChanged): void {
    for (const members of this.#lists) members.onChange(change);
  }

  // ------------------------------------------------------------ what the stream wants

  deliver(arrival: Arrival, replayed: boolean): void {
    let publication: Publication;
    try {
      publication = toPublication(arrival, replayed);
    } catch (error) {
      return this.emitter.emit("error", fluxError("bad_payload", `publication ${arrival.seq} is not JSON: ${String(error)}`));
    }
    this.emitter.emit("publication", publication);
  }

  onGap(gap: Gap): void {
    this.emitter.emit("gap", gap);
  }

  onRecovered(recovered: Recovered): void {
    this.emitter.emit("recovered", recovered);
  }

  onLive(): void {
    if (this.position !== null) this.emitter.emit("live", this.position);
    for (const members of this.#lists) members.live();
  }

  onMissed(): void {
    for (const members of this.#lists) members.missed();
  }

  readHistory(since: Position, onAnswer: (answer: Arrival[] | FluxError) => void, attempt = 0): void {
    this.#owner.send({ history: { room: this.#options.room, since, limit: repairPage, orOldest: true } }, (answer) => {
      if ("reply" in answer) return onAnswer((answer.reply.history?.publications ?? []).map(toArrival));
      const { error } = answer;
      if (error.code === "disconnected" || this.#state !== "joined") return;
      if (!error.retryable || attempt + 1 >= historyTriesMax) return onAnswer(error);
      this.#retry(attempt, () => this.readHistory(since, onAnswer, attempt + 1));
    });
  }
}

/** The position before all that the answer to a join without a position brings. Null: pages follow, and it does not name it. */
function startOf({ position, publications, more }: Joined): Position | null {
  const [first] = (publications ?? []).map(toArrival);
  if (first !== undefined) return { epoch: first.epoch, seq: first.prev };
  return more ? null : toPosition(position);
}
