/**
 * The session that a publication is not delivered to: the one that published it, or the one that the application has
 * excluded. The broker carries a note of it, the publication's origin.
 */
import { originForAll, type Stored } from "../broker/broker.ts";
import { nobody, writeReply } from "../link/records.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import { roomKey, tenantOfUser } from "../protocol/roomkeys.ts";
import type { AttachedReactor, HubRoom } from "./rooms.ts";
import { placeIn } from "./sessions/places.ts";
import type { HubSession } from "./sessions/session.ts";
import type { HubSessions } from "./sessions/sessions.ts";

export interface Out {
  /** Number of the session's reactor, and the session's slot there. */
  readonly reactor: number;
  readonly slot: number;
  readonly life: number;
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

  constructor(options: LeftOutOptions) {
    this.#options = options;
  }

  /**
   * A copy may return after another reactor got the index, where slot and life may be the same. The number tells them
   * apart.
   */
  originOf({ index }: AttachedReactor, slot: number, life: number): string {
    return `${this.#options.numbers[index]} ${slot} ${life}`;
  }

  find(room: HubRoom, origin: string): Out {
    if (!origin.startsWith(originForAll)) {
      const [reactor, slot, life] = origin.split(" ").map(Number);
      return { reactor: reactor!, slot: slot!, life: life!, session: null };
    }
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
