/** Writes sessions into the store, together with the changes of the next moment. */
import type { SessionRecord, Sessions as Store } from "../../sessions/sessions.ts";
import { nameOfUser, tenantOfUser } from "../../protocol/roomkeys.ts";
import { listed } from "./places.ts";
import type { HubSession } from "./session.ts";

/** Changes of a session's rooms are written together, since a client joins many at once. */
const writeAfterMs = 50;
/** Sessions that are written in one go. */
const writesMax = 2_000;

export class Writing {
  readonly #store: Store;
  readonly #node: string;
  readonly #unwritten = new Set<HubSession>();
  #timer: NodeJS.Timeout | null = null;

  constructor(store: Store, node: string) {
    this.#store = store;
    this.#node = node;
  }

  /** Writes it soon, where the store outlives the process. */
  soon(session: HubSession): void {
    if (session.state !== "here" || !this.#store.outlivesProcess) return;
    this.#unwritten.add(session);
    this.#timer ??= setTimeout(() => this.#flush(), writeAfterMs).unref();
  }

  now(session: HubSession): void {
    this.#store.put(this.#record(session));
  }

  forget(session: HubSession): void {
    this.#unwritten.delete(session);
  }

  #flush(max = writesMax): void {
    this.#timer = null;
    for (const session of this.#unwritten) {
      if (max-- <= 0) {
        this.#timer = setTimeout(() => this.#flush(), writeAfterMs).unref();
        return;
      }
      this.#unwritten.delete(session);
      this.now(session);
    }
  }

  #record({ id, userKey: key, device, generation, rooms, assigned }: HubSession): SessionRecord {
    return {
      id, tenant: tenantOfUser(key), user: nameOfUser(key), device, node: this.#node, generation, rooms: listed(rooms),
      ...(assigned.size > 0 && { assigned: [...assigned] }),
    };
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#flush(Infinity);
  }
}
