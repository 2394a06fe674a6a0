/**
 * The session that a publication is not delivered to: the one that published it, or the one that the application has
 * excluded. The broker carries a note of it, the publication's origin.
 */
import { originForAll, readOrigin, type Origin, type OriginSession, type Stored } from "../broker/broker.ts";
import { nobody } from "../link/publications.ts";
import { writeReply } from "../link/records.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import { roomKey, tenantOfUser } from "../protocol/roomkeys.ts";
import type { AttachedReactor, HubRoom } from "./rooms.ts";
import { placeIn } from "./sessions/places.ts";
import type { HubSession } from "./sessions/session.ts";
import type { HubSessions } from "./sessions/sessions.ts";

export interface Out extends OriginSession {
  /** Set where the application excluded it: it does not know the publication's position yet. */
  readonly session: HubSession | null;
}

export const nobodyIsOut: Out = { reactor: -1, slot: nobody, life: 0, session: null };

export interface LeftOutOptions {
  readonly sessions: HubSessions;
  /** By index of a reactor: the number of the one that has it now. Numbers are never used again. */
  readonly numbers: readonly number[];
  readonly encoder: Encoder;
}

export class LeftOut {
  readonly #options: LeftOutOptions;
  /** The last one: a session publishes more than once. */
  #last: Out = nobodyIsOut;

  constructor(options: LeftOutOptions) {
    this.#options = options;
  }

  /**
   * A copy may return after another reactor got the index, where slot and life may be the same. The number tells them
   * apart.
   */
  originOf({ index }: AttachedReactor, slot: number, life: number): OriginSession {
    const reactor = this.#options.numbers[index]!;
    const last = this.#last;
    if (last.life !== life || last.slot !== slot || last.reactor !== reactor) this.#last = { reactor, slot, life, session: null };
    return this.#last;
  }

  find(room: HubRoom, origin: Origin): Out {
    if (typeof origin === "object") return origin === this.#last ? this.#last : { ...origin, session: null };
    if (!origin.startsWith(originForAll)) return { ...readOrigin(origin), session: null };
    const session = this.#options.sessions.named(origin.slice(originForAll.length));
    if (session === undefined || !isIn(session, room)) return nobodyIsOut;
    const { reactor: { index }, slot, life } = session;
    return { reactor: this.#options.numbers[index]!, slot, life, session };
  }

  /**
   * Tells the excluded session the position, so that it sees no gap. Call it behind the delivery: positions must come in
   * their order.
   */
  tell({ reactor, slot, life, wire }: HubSession, room: HubRoom, { epoch, seq, prev }: Stored): void {
    const published = { position: { epoch, seq }, receivers: room.members, duplicate: false, room: room.name, prev };
    if (reactor.live) writeReply(reactor.link, slot, life, this.#options.encoder.frame(wire, { id: 0, published }));
  }
}

/** Whether the session is in the room. A room of the same name may belong to another tenant. */
function isIn({ rooms, userKey }: HubSession, { key, name }: HubRoom): boolean {
  return placeIn(rooms, name) !== undefined && roomKey(tenantOfUser(userKey), name) === key;
}
