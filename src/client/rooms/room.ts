import type { HistoryPage } from "../../protocol/messages.ts";
import type { MembershipOwner, Membership, JoinedRoom, RoomEvents } from "./membership.ts";
import { fluxError } from "../flux-error.ts";
import { toPresencePage } from "./presence.ts";
import type { Members, PresenceOptions, PresencePage } from "./presence.ts";
import { encodePayload, toArrival, toPosition, toPublication } from "./publication.ts";
import type { Position, Publication } from "./publication.ts";
import { randomKey } from "../random.ts";
import type { Unsubscribe } from "../emitter.ts";

/** Where the node put a publication. */
export type Published = Position & {
  /** Members of the room that the node knew of. */
  readonly receivers: number;
  /** It had been published before, by a try whose answer was lost or by someone who used the same key. */
  readonly duplicate: boolean;
};

export type PublishOptions = {
  /** Idempotency key: while the node remembers it, a second publish with it changes nothing. Random unless given. */
  key?: string;
  /**
   * Do not deliver the publication to this client. If the socket is lost before the node has answered, it can come
   * with what is recovered all the same: the next session is not the one that published it.
   */
  excludeSelf?: boolean;
};

export type HistoryOptions = {
  /** Read forward from behind this position. */
  since?: Position;
  /** Read backward from before this position. With neither, the newest are read. */
  before?: Position;
  limit: number;
};

export type History = {
  /** Oldest first. */
  readonly publications: readonly Publication[];
  /** The room's head. */
  readonly position: Position;
  /** There is more in the same direction. */
  readonly more: boolean;
};

/** A room the client is in, or on its way into; it finds back by itself after every loss of the socket. */
export class Room {
  readonly name: string;
  readonly #membership: Membership;
  readonly #send: MembershipOwner["send"];

  /** Rooms come from client.join(). */
  constructor(name: string, membership: Membership, send: MembershipOwner["send"]) {
    this.name = name;
    this.#membership = membership;
    this.#send = send;
  }

  /** Resolves when the room was joined for the first time, rejects with what the node refused it for. */
  get joined(): Promise<JoinedRoom> {
    return this.#membership.firstJoined;
  }

  /** Of the last publication delivered. Stored, it lets a later join() go on from here with `recover`. */
  get position(): Position | null {
    return this.#membership.position;
  }

  on<Name extends keyof RoomEvents>(name: Name, listener: (event: RoomEvents[Name]) => void): Unsubscribe {
    return this.#membership.emitter.on(name, listener);
  }

  /**
   * Publishes bytes (a Uint8Array) as they are, anything else as JSON. Waits for the room to be joined, and through
   * losses of the socket; resolves when the node has given the publication its position. Publishes of one client to
   * one room keep their order, except that one the node refused for now (`overloaded`, `unavailable`) and which is
   * tried again can come behind others that were on their way with it.
   *
   * Rejects with a FluxError: `overloaded` if too many are waiting already, `timeout`, or what the node says.
   */
  async publish(data: unknown, options: PublishOptions = {}): Promise<Published> {
    const { key = randomKey(), excludeSelf = false } = options;
    const command = { publish: { room: this.name, ...encodePayload(data), key, excludeSelf } };
    const { published } = await this.#membership.outbox.put(command);
    const { position, receivers, duplicate } = published ?? {};
    return { ...toPosition(position), receivers: receivers ?? 0, duplicate: duplicate ?? false };
  }

  /** Reads from what the room keeps. Rejects with a FluxError, `disconnected` if there is no session just now. */
  history({ since, before, limit }: HistoryOptions): Promise<History> {
    const command = { room: this.name, limit, ...(since && { since }), ...(before && { before }) };
    return new Promise((resolve, reject) => {
      this.#send({ history: command }, (answer) => {
        if ("error" in answer) return reject(answer.error);
        try {
          resolve(toHistory(answer.reply.history ?? {}));
        } catch (error) {
          reject(fluxError("bad_payload", `a publication is not JSON: ${String(error)}`));
        }
      });
    });
  }

  /** Who is in the room now, a page of it. Rejects with a FluxError, `disconnected` if there is no session just now. */
  presence({ countsOnly = false, after = "", limit = 0 }: PresenceOptions = {}): Promise<PresencePage> {
    return new Promise((resolve, reject) => {
      this.#send({ presence: { room: this.name, countsOnly, after, limit } }, (answer) => {
        if ("error" in answer) reject(answer.error);
        else resolve(toPresencePage(answer.reply.presence ?? {}));
      });
    });
  }

  /** Who is in the room, kept up to date until stop(); of more than `max` users (1,000), how many and some names. */
  members({ max = 1000 }: { max?: number } = {}): Members {
    return this.#membership.members(max);
  }

  /** Resolves when the node has taken note. The room of a later join() is another object. */
  leave(): Promise<void> {
    return this.#membership.leave();
  }
}

function toHistory({ publications, position, more }: HistoryPage): History {
  return {
    publications: (publications ?? []).map((wire) => toPublication(toArrival(wire), true)),
    position: toPosition(position),
    more: more ?? false,
  };
}
