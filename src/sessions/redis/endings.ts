/**
 * The marks of disconnected users in a Redis Cluster. Sessions are told from those to come by when they began, and each
 * server says by itself when that is: so a mark is sent when the sessions that were put before it have begun, and those
 * that its user begins meanwhile are put when it has been made. The servers have to keep one time, as those of a cluster do.
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
  /** By id, what is put behind the mark. */
  readonly behind: Map<string, SessionRecord>;
  /** The user was disconnected once more. */
  again: boolean;
  readonly made: Promise<void>;
}

export class Endings {
  readonly #options: EndingsOptions;
  readonly #byUser = new Map<string, Ending>();
  /** By id of what is held: a session that ends or is taken must not be looked for in all of them. */
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

  /** True: it is put behind the mark of its user, which is on its way. */
  hold(user: string, record: SessionRecord): boolean {
    const ending = this.#byUser.get(user);
    if (ending === undefined) return false;
    ending.behind.set(record.id, record);
    this.#holding.set(record.id, ending);
    return true;
  }

  /** What is held of the session is over. */
  drop(id: string): void {
    this.#holding.get(id)?.behind.delete(id);
    this.#holding.delete(id);
  }

  /** Until what is held of the session has been put. */
  async untilPut(id: string): Promise<void> {
    await this.#holding.get(id)?.made;
  }

  /** Until the mark of the user, if any is on its way, has been made, or Redis does not take it. */
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
