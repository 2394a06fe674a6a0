import type { ClientFrame, HistoryPage, ServerFrame } from "../../protocol/messages.ts";
import type { MembershipOwner, Membership, JoinedRoom, RoomEvents } from "./membership.ts";
import { fluxError } from "../flux-error.ts";
import { toPresencePage } from "./presence.ts";
import type { Members, PresenceOptions, PresencePage } from "./presence.ts";
import { encodePayload, toArrival, toPosition, toPublication } from "./publication.ts";
import type { Position, Publication } from "./publication.ts";
import { randomKey } from "../random.ts";
import type { Unsubscribe } from "../emitter.ts";

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
};

export type HistoryOptions = {
  /** Read forward, after this position. */
  since?: Position;
  /** Read backward, before this position. Without `since` and `before` the newest are read. */
  before?: Position;
  /** Publications to read at most. */
  limit: number;
};

export type History = {
  /** The publications, oldest first. */
  readonly publications: readonly Publication[];
  /** Position of the newest publication of the room. */
  readonly position: Position;
  /** There are more in the same direction. */
  readonly more: boolean;
};

/** A room that the client has joined or is joining. It rejoins by itself after every loss of the socket. */
export class Room {
  /** Name of the room. */
  readonly name: string;
  readonly #membership: Membership;
  readonly #send: MembershipOwner["sendNow"];

  /** Rooms come from client.join(). @internal */
  constructor(name: string, membership: Membership, send: MembershipOwner["sendNow"]) {
    this.name = name;
    this.#membership = membership;
    this.#send = send;
  }

  /** Resolves when the room is joined for the first time. Rejects with the FluxError for which the node refused. */
  get joined(): Promise<JoinedRoom> {
    return this.#membership.firstJoined;
  }

  /** Position of the last publication delivered. Store it, and a later `join()` recovers from it with `recover`. */
  get position(): Position | null {
    return this.#membership.position;
  }

  /** Adds a listener. Returns a function that removes it. */
  on<Name extends keyof RoomEvents>(name: Name, listener: (event: RoomEvents[Name]) => void): Unsubscribe {
    return this.#membership.emitter.on(name, listener);
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
  async publish(data: unknown, options: PublishOptions = {}): Promise<Published> {
    return toPublished(await this.#membership.outbox.put(publishCommand(this.name, data, options)));
  }

  /** Reads from the history of the room. Rejects with a FluxError, `disconnected` if there is no session. */
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

  /** Reads one page of the members of the room. Rejects with a FluxError, `disconnected` if there is no session. */
  presence({ countsOnly = false, after = "", limit = 0 }: PresenceOptions = {}): Promise<PresencePage> {
    return new Promise((resolve, reject) => {
      this.#send({ presence: { room: this.name, countsOnly, after, limit } }, (answer) => {
        if ("error" in answer) reject(answer.error);
        else resolve(toPresencePage(answer.reply.presence ?? {}));
      });
    });
  }

  /** Members of the room, kept up to date until `stop()`. With more than `max` users (1,000) it has all counts and `max` names. */
  members({ max = 1000 }: { max?: number } = {}): Members {
    return this.#membership.members(max);
  }

  /** Leaves the room. Resolves when the node has confirmed it. A later `join()` returns a new object. */
  leave(): Promise<void> {
    return this.#membership.leave();
  }
}

/** @throws FluxError bad_request */
export function publishCommand(room: string, data: unknown, { key = randomKey(), excludeSelf = false }: PublishOptions): ClientFrame {
  return { publish: { room, ...encodePayload(data), key, excludeSelf } };
}

export function toPublished({ published }: ServerFrame): Published {
  const { position, receivers, duplicate } = published ?? {};
  return { ...toPosition(position), receivers: receivers ?? 0, duplicate: duplicate ?? false };
}

function toHistory({ publications, position, more }: HistoryPage): History {
  return {
    publications: (publications ?? []).map((wire) => toPublication(toArrival(wire), true)),
    position: toPosition(position),
    more: more ?? false,
  };
}
