/**
 * Live traces of users on this node: what their sockets and commands do, as reactors tell it. A trace goes on while
 * somebody asks for it, and ends by itself soon after, or after ten minutes.
 */
import type { Said } from "./answers.ts";

export interface UserTracesOptions {
  /** Has reactors tell of these users, by their keys. */
  follow(users: readonly string[]): void;
}

export interface TracedEvent {
  readonly text: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
}

interface Trace {
  readonly since: number;
  readAt: number;
  readonly events: Said<"trace">["events"];
  last: number;
  unsaid: number;
  second: number;
  taken: number;
}

const perSecondMax = 20;
const eventsMax = 100;
const tracesMax = 8;
const idleMs = 5_000;
const longestMs = 10 * 60_000;
const lookMs = 1_000;
const shownElsewhere: ReadonlySet<string> = new Set(["session", "user"]);

export class UserTraces {
  readonly #options: UserTracesOptions;
  readonly #clock: () => number;
  readonly #open = new Map<string, Trace>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: UserTracesOptions, clock = () => performance.now()) {
    this.#options = options;
    this.#clock = clock;
  }

  /** The events since the asker's last one. Null: too many users are traced. */
  read(user: string, after: number): Said<"trace"> | null {
    const now = this.#clock();
    let trace = this.#open.get(user);
    if (trace === undefined) {
      if (this.#open.size >= tracesMax) return null;
      trace = { since: now, readAt: now, events: [], last: 0, unsaid: 0, second: 0, taken: 0 };
      this.#open.set(user, trace);
      this.#timer ??= setInterval(() => this.look(), lookMs).unref();
      this.#options.follow([...this.#open.keys()]);
    }
    trace.readAt = now;
    const { unsaid } = trace;
    trace.unsaid = 0;
    return { unsaid, events: trace.events.filter(({ n }) => n > after) };
  }

  tell(user: string, reactor: number, { text, fields }: TracedEvent): void {
    const trace = this.#open.get(user);
    if (trace === undefined) return;
    const second = Math.floor(this.#clock() / 1_000);
    if (second !== trace.second) {
      trace.second = second;
      trace.taken = 0;
    }
    if (++trace.taken > perSecondMax) return void trace.unsaid++;
    if (trace.events.length >= eventsMax) trace.events.shift();
    const at = Date.now();
    // Numbers of one node only grow, also when it was restarted meanwhile: the asker keeps the last of each node.
    trace.last = Math.max(trace.last + 1, at);
    const details = Object.entries(fields).filter(([name]) => !shownElsewhere.has(name)).map(([name, value]) => `${name} ${value}`).join(" · ");
    trace.events.push({ n: trace.last, at, reactor, session: String(fields.session ?? ""), what: text, details: details.slice(0, 1_024) });
  }

  /** Ends the traces that nobody reads. */
  look(): void {
    const now = this.#clock();
    const before = this.#open.size;
    for (const [user, { readAt, since }] of this.#open) if (now - readAt > idleMs || now - since > longestMs) this.#open.delete(user);
    if (this.#open.size === before) return;
    this.#options.follow([...this.#open.keys()]);
    if (this.#open.size === 0) this.stop();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#open.clear();
  }
}
