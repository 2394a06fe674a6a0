import type { ClientFrame, HistoryPage, ServerFrame } from "../../protocol/messages.ts";
import { abortable } from "../abort.ts";
import type { Clock } from "../clock.ts";
import { Emitter } from "../emitter.ts";
import type { Unsubscribe } from "../emitter.ts";
import { FluxError, fluxError } from "../flux-error.ts";
import type { JoinOptions, WaitOptions } from "../options.ts";
import { randomKey } from "../random.ts";
import { iterate } from "./iterate.ts";
import { Late } from "./late.ts";
import type { JoinedRoom, Membership, MembershipOwner, RoomEvents } from "./membership.ts";
import { toPresencePage } from "./presence.ts";
import type { Members, PresenceOptions, PresencePage } from "./presence.ts";
import { encodePayload, toArrival, toPosition, toPublication } from "./publication.ts";
import type { Position, Publication } from "./publication.ts";
import { validated } from "./schema.ts";
import type { Schema } from "./schema.ts";

/** Position of a publication in its room. */
export type Published = Position & {
  /** Members of the room that the node knew when it published. */
  readonly receivers: number;
  /** The key had been used before: this is the position of the first publication. */
  readonly duplicate: boolean;
};

export type PublishOptions = {
  /** Idempotency key. A second publish with the same key has no effect while the node remembers the key. Random by default. */
  key?: string;
  /**
   * Do not deliver the publication to this client. It can still arrive by recovery if the socket is lost before the node
   * answers.
   */
  excludeSelf?: boolean;
  /** Gives up waiting: the promise rejects with its reason. What was not sent by then is not sent. What was sent may take place. */
  signal?: AbortSignal;
};

export type HistoryOptions = {
  /** Read forward, after this position. */
  since?: Position;
  /** Read backward, before this position. Without `since` and `before` the newest are read. */
  before?: Position;
  /** Publications to read at most. */
  limit: number;
  /** Gives up waiting: the promise rejects with its reason. */
  signal?: AbortSignal;
};

export type History<Data = unknown> = {
  /** The publications, oldest first. */
  readonly publications: readonly Publication<Data>[];
  /** Position of the newest publication of the room. */
  readonly position: Position;
  /** There are more in the same direction. */
  readonly more: boolean;
};

/** What a room needs of the client. */
export type RoomOwner = {
  send: MembershipOwner["sendNow"];
  /** For what the client does by itself. */
  paced: MembershipOwner["send"];
  /** The last of those who joined the room leaves it for the client. */
  leave(room: Room): Promise<void>;
  clock: Clock;
  random: () => number;
  heldMax: number;
};

export type RoomOptions<Data> = Pick<JoinOptions<Data>, "recover" | "history" | "schema"> & {
  /** Another room of the same name was joined before: this one begins with a history of its own. */
  isLate: boolean;
};

/**
 * A room that the client has joined or is joining. It rejoins by itself after every loss of the socket. Each `join()`
 * makes one, with its own history, listeners and `leave()`: the client leaves the room with the last of them.
 */
export class Room<Data = unknown> implements AsyncIterable<Publication<Data>> {
  /** Name of the room. */
  readonly name: string;
  readonly #membership: Membership;
  readonly #owner: RoomOwner;
  readonly #schema: Schema<Data> | undefined;
  readonly #emitter = new Emitter<RoomEvents<Data>>();
  readonly #lists = new Set<Members>();
  readonly #off: Unsubscribe[];
  readonly #joined: Promise<JoinedRoom>;
  #onEarlyLeave = () => {};
  /** Until the history of a later join is delivered. */
  #late: Late | null = null;
  #lateRead: Late | null = null;
  #isLeft = false;
  /** Why the node refused or ended the room. */
  #leftFor: FluxError | null = null;

  /** Rooms come from client.join(). @internal */
  constructor(name: string, membership: Membership, owner: RoomOwner, { schema, isLate, recover, history = 0 }: RoomOptions<Data>) {
    this.name = name;
    this.#membership = membership;
    this.#owner = owner;
    this.#schema = schema;
    const left = new Promise<never>((_, reject) => (this.#onEarlyLeave = () => reject(fluxError("left"))));
    this.#joined = Promise.race([membership.firstJoined, left]);
    this.#joined.catch(() => {}); // applications that do not await it use the events
    if (isLate && (recover || history > 0)) this.#late = this.#lateRead = this.#begin(recover ?? null, history);
    this.#off = kinds.map((kind) => membership.emitter.on(kind, (event) => this.#on(kind, event)));
    // It rejects where a listener of the first `joined` has ended the room: then there is nothing to tell.
    if (isLate && membership.isJoined) queueMicrotask(() => void this.#joinedBefore().catch(() => {}));
  }

  /** Resolves when the room is joined for the first time. Rejects with the FluxError for which the node refused. */
  get joined(): Promise<JoinedRoom> {
    return this.#joined;
  }

  /** The room was left, by `leave()` or because the node refused. */
  get isLeft(): boolean {
    return this.#isLeft;
  }

  /** Position of the last publication delivered. Store it, and a later `join()` recovers from it with `recover`. */
  get position(): Position | null {
    return this.#late === null ? this.#membership.position : this.#late.position;
  }

  /** Adds a listener. Returns a function that removes it. */
  on<Name extends keyof RoomEvents>(name: Name, listener: (event: RoomEvents<Data>[Name]) => void): Unsubscribe {
    return this.#emitter.on(name, listener);
  }

  /**
   * Publishes into the room. Bytes (an ArrayBuffer, or a view on one) are sent as they are, anything else as JSON. Waits for the room to be
   * joined, and repeats after a loss of the socket under the same key, so that it takes place once. Resolves with the
   * position. Publishes of one client to one room keep their order, with one exception: after `overloaded` or `unavailable`
   * the client repeats the publish, and it can then follow others that were sent with it.
   *
   * Rejects with a FluxError: `overloaded` if too many wait, `timeout`, `disconnected` if it is unknown whether it took
   * place, or the error of the node.
   */
  async publish(data: Data, options: PublishOptions = {}): Promise<Published> {
    if (this.#isLeft) throw this.#membership.outbox.ended ?? fluxError("left");
    return toPublished(await this.#membership.outbox.put(publishCommand(this.name, data, options), options.signal));
  }

  /** Reads from the history of the room. Rejects with a FluxError, `disconnected` if there is no session. */
  history({ since, before, limit, signal }: HistoryOptions): Promise<History<Data>> {
    const command = { room: this.name, limit, ...(since && { since }), ...(before && { before }) };
    return this.#ask({ history: command }, signal, ({ history }) => this.#toHistory(history ?? {}));
  }

  /** Reads one page of the members of the room. Rejects with a FluxError, `disconnected` if there is no session. */
  presence({ countsOnly = false, after = "", limit = 0, signal }: PresenceOptions = {}): Promise<PresencePage> {
    return this.#ask({ presence: { room: this.name, countsOnly, after, limit } }, signal, ({ presence }) => toPresencePage(presence ?? {}));
  }

  /** Members of the room, kept up to date until `stop()`. With more than `max` users (1,000) it has all counts and `max` names. */
  members({ max = 1000 }: { max?: number } = {}): Members {
    const members = this.#membership.members(max, () => this.#lists.delete(members));
    this.#lists.add(members);
    return members;
  }

  /**
   * Publications from the first `next()` on, for `for await`. The loop ends when the room is left, and throws where the node refused it.
   * `break` ends the loop and not the membership. When 1,000 (`heldPublicationsMax`) wait for the loop, it throws
   * `overloaded`. Gaps do not end it: listen for `gap`. `for await (const { data } of room)` is the same without options.
   */
  publications({ signal }: WaitOptions = {}): AsyncIterableIterator<Publication<Data>> {
    return iterate(this, this.#owner.heldMax, () => this.#leftFor, signal);
  }

  /** Same as `publications()`: `for await (const { data } of room)`. */
  [Symbol.asyncIterator](): AsyncIterator<Publication<Data>> {
    return this.publications();
  }

  /** Leaves the room. Resolves when the node has confirmed it, or at once where another `join()` of this client is still in it. */
  async leave(): Promise<void> {
    if (this.#isLeft) return;
    for (const members of this.#lists) members.stop();
    await this.#owner.leave(this as Room);
  }

  // ------------------------------------------------------------ for the client

  /** Others of this client stay in the room. @internal */
  end(): void {
    this.#on("left", null);
  }

  // ------------------------------------------------------------ what the membership tells

  #on<Name extends keyof RoomEvents>(name: Name, event: RoomEvents[Name]): void {
    if (this.#isLeft) return;
    const late = this.#late;
    if (name === "left") this.#stop(event as RoomEvents["left"]);
    else if (late !== null && name === "publication") return late.hold(event as Publication);
    else if (late !== null && (name === "gap" || name === "recovered" || name === "live")) return late.hold(() => this.#tell(name, event));
    if (name === "publication") this.#deliver(event as Publication);
    else this.#emitter.emit(name, event as RoomEvents<Data>[Name]);
    if (name === "joined") late?.begin();
  }

  /** What waited for the history. */
  #tell<Name extends keyof RoomEvents>(name: Name, event: RoomEvents[Name]): void {
    if (!this.#isLeft) this.#emitter.emit(name, event as RoomEvents<Data>[Name]);
  }

  #deliver(publication: Publication): void {
    // The history that a later join read may have been ahead of the socket.
    if (!this.#lateRead?.has(publication.position)) this.#emit(publication);
  }

  #emit(publication: Publication): void {
    try {
      this.#emitter.emit("publication", this.#checked(publication));
    } catch (error) {
      this.#emitter.emit("error", error as FluxError);
    }
  }

  #checked(publication: Publication): Publication<Data> {
    if (this.#schema === undefined) return publication as Publication<Data>;
    return { ...publication, data: validated(this.#schema, publication.data, `publication ${publication.position.seq} of ${this.name}`) };
  }

  #stop(error: FluxError | null): void {
    this.#isLeft = true;
    this.#leftFor = error;
    this.#late?.stop();
    this.#onEarlyLeave();
    for (const off of this.#off) off();
  }

  /** The client had joined the room before. */
  async #joinedBefore(): Promise<void> {
    const joined = await this.#membership.firstJoined;
    const { position } = this.#membership;
    if (this.#isLeft) return;
    this.#on("joined", { ...joined, position: position ?? joined.position, recovered: false, rejoined: false });
    // Nobody tells it otherwise: the room became live before this join.
    if (this.#membership.isLive) this.#on("live", position ?? joined.position);
  }

  #begin(recover: Position | null, history: number): Late {
    const { paced, clock, random, heldMax } = this.#owner;
    return new Late({ room: this.name, recover, history, heldMax }, {
      send: (command, onReply) => paced(command, onReply), clock, random,
      deliver: (publication) => this.#emit(publication),
      onGap: (gap) => this.#emitter.emit("gap", gap),
      head: () => this.#membership.position,
      onDone: () => (this.#late = null),
    });
  }

  // ------------------------------------------------------------ asking

  #ask<T>(command: ClientFrame, signal: AbortSignal | undefined, read: (reply: ServerFrame) => T): Promise<T> {
    return abortable(signal, () => new Promise((resolve, reject) => {
      this.#owner.send(command, (answer) => {
        if ("error" in answer) return reject(answer.error);
        try {
          resolve(read(answer.reply));
        } catch (error) {
          reject(error instanceof FluxError ? error : fluxError("bad_payload", `a publication is not JSON: ${String(error)}`));
        }
      });
    }));
  }

  #toHistory({ publications, position, more }: HistoryPage): History<Data> {
    return {
      publications: (publications ?? []).map((wire) => this.#checked(toPublication(toArrival(wire), true))),
      position: toPosition(position),
      more: more ?? false,
    };
  }
}

const kinds = ["publication", "joined", "recovered", "gap", "live", "error", "left"] as const;

/** @throws FluxError bad_request */
export function publishCommand(room: string, data: unknown, { key = randomKey(), excludeSelf = false }: PublishOptions): ClientFrame {
  return { publish: { room, ...encodePayload(data), key, excludeSelf } };
}

export function toPublished({ published }: ServerFrame): Published {
  const { position, receivers, duplicate } = published ?? {};
  return { ...toPosition(position), receivers: receivers ?? 0, duplicate: duplicate ?? false };
}
