/**
 * The marks of disconnected users in a Redis Cluster. A mark ends the sessions that began before it, and each server
 * uses its own clock for that. So the mark is sent after the earlier sessions have been put. Sessions that the user
 * begins meanwhile are put after the mark. The servers' clocks have to agree, as they do in a cluster.
 */
import type { Writes } from "../../redis/writes.ts";
import type { SessionRecord } from "../sessions.ts";

export interface EndingsOptions {
  readonly writes: Writes;
  /** Puts the mark of the user. */
  mark(user: string): void;
  put(record: SessionRecord): void;
}

interface Ending {
  /** By id, records that are put behind the mark. */
  readonly behind: Map<string, SessionRecord>;
  /** The user was disconnected once more. */
  again: boolean;
  readonly made: Promise<void>;
}

export class Endings {
  readonly #options: EndingsOptions;
  readonly #byUser = new Map<string, Ending>();
  /** By id of the held record, so that ending or taking a session does not search all endings. */
  readonly #holding = new Map<string, Ending>();

  constructor(options: EndingsOptions) {
    this.#options = options;
  }

  end(user: string): void {
    const known = this.#byUser.get(user);
    if (known === undefined) {
      const ending = { behind: new Map<string, SessionRecord>(), again: true };
      this.#byUser.set(user, Object.assign(ending, { made: this.#make(user, ending) }));
      return;
    }
    known.again = true;
    for (const id of known.behind.keys()) this.drop(id);
  }

  /** True: the record is put behind its user's mark, which is on its way. */
  hold(user: string, record: SessionRecord): boolean {
    const ending = this.#byUser.get(user);
    if (ending === undefined) return false;
    ending.behind.set(record.id, record);
    this.#holding.set(record.id, ending);
    return true;
  }

  /** Drops the held record of a session that is over. */
  drop(id: string): void {
    this.#holding.get(id)?.behind.delete(id);
    this.#holding.delete(id);
  }

  /** Resolves when the held record of the session has been put. */
  async untilPut(id: string): Promise<void> {
    await this.#holding.get(id)?.made;
  }

  /** Resolves when the mark of the user has been made, if one is on its way, or Redis refuses it. */
  async untilMade(user: string): Promise<void> {
    await this.#byUser.get(user)?.made;
  }

  async untilAllMade(): Promise<void> {
    await Promise.all([...this.#byUser.values()].map(({ made }) => made));
  }

  async #make(user: string, ending: Pick<Ending, "behind" | "again">): Promise<void> {
    const { writes, mark, put } = this.#options;
    while (ending.again) {
      ending.again = false;
      await writes.settled();
      mark(user);
      await writes.settled();
    }
    this.#byUser.delete(user);
    for (const record of ending.behind.values()) {
      this.#holding.delete(record.id);
      put(record);
    }
  }
}
