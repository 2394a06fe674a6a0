/**
 * The beginning of a room for one that joined it while the client was in it: its own history, read by itself. What is
 * published meanwhile waits, and comes once.
 */
import type { ClientFrame } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { OnReply } from "../connection/commands.ts";
import { toArrival, toPosition, toPublication } from "./publication.ts";
import type { Arrival, Position, Publication } from "./publication.ts";
import type { Gap } from "./stream.ts";

export type LateOptions = { room: string; recover: Position | null; history: number; heldMax: number };

export type LateOwner = {
  send(command: ClientFrame, onReply: OnReply): void;
  deliver(publication: Publication): void;
  onGap(gap: Gap): void;
  /** Position of the room's last publication that the client got. */
  head(): Position | null;
  /** All is delivered: what comes from now on is for the owner. */
  onDone(): void;
  clock: Clock;
  random: () => number;
};

/** Publications per read of a recovery. */
const pageSize = 100;
const retryBackoff = { baseMs: 200, capMs: 5000 };

export class Late {
  readonly #options: LateOptions;
  readonly #owner: LateOwner;
  /** What the room emitted meanwhile: publications, and other events as calls. */
  #held: (Publication | (() => void))[] = [];
  /** Last position read. */
  #last: Position | null;
  #isReading = false;
  #isDone = false;

  constructor(options: LateOptions, owner: LateOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#last = options.recover;
  }

  /** Position of the last publication delivered. */
  get position(): Position | null {
    return this.#last;
  }

  /** The client is in the room, at first or again. */
  begin(): void {
    if (this.#isReading || this.#isDone) return;
    this.#isReading = true;
    this.#read(0);
  }

  hold(event: Publication | (() => void)): void {
    this.#held.push(event);
    // Newer publications matter more than older ones.
    if (this.#held.length > this.#options.heldMax) this.#lose(`more than ${this.#options.heldMax} publications arrived before the missed ones were read`);
  }

  /** The room was left. */
  stop(): void {
    this.#isDone = true;
    this.#held = [];
  }

  #read(attempt: number): void {
    const { room, recover, history } = this.#options;
    const since = recover === null ? null : this.#last;
    this.#owner.send({ history: since === null ? { room, limit: history } : { room, since, limit: pageSize, orOldest: true } }, (answer) => {
      if (this.#isDone) return;
      if ("error" in answer) return this.#onError(answer.error, attempt);
      const { publications, more, position } = answer.reply.history ?? {};
      const page = (publications ?? []).map(toArrival);
      if (since === null) return this.#finish(page.flatMap(readable));
      for (const arrival of page) this.#recover(arrival);
      if (more && page.length > 0) return this.#read(0);
      const head = toPosition(position);
      if (head.epoch === "" || this.has(head)) this.#finish([]);
      else this.#lose(gone, head); // what precedes the head is not kept
    });
  }

  #recover(arrival: Arrival): void {
    const from = this.#last;
    const { epoch, seq, prev } = arrival;
    // The node begins with the oldest that it has.
    if (from !== null && !this.#isDone && (epoch !== from.epoch || prev > from.seq)) this.#owner.onGap({ from, to: { epoch, seq: prev }, text: gone });
    for (const publication of readable(arrival)) this.#deliver(publication);
    if (!this.#isDone && !this.has({ epoch, seq })) this.#last = { epoch, seq };
  }

  #onError({ code, retryable }: { code: string; retryable: boolean }, attempt: number): void {
    const { clock, random } = this.#owner;
    if (code === "disconnected") this.#isReading = false; // begins again with the next session
    else if (retryable) clock.after(backoffMs(attempt, retryBackoff, random), () => !this.#isDone && this.#read(attempt + 1));
    else this.#lose(gone);
  }

  /** Goes on with what is held. A recovery is told what it does not get. */
  #lose(text: string, head = this.#owner.head()): void {
    const from = this.#options.recover === null ? null : this.#last;
    const next = this.#held.flatMap((event) => (typeof event === "function" || this.has(event.position) ? [] : [event.position]))[0];
    const to = next ? { epoch: next.epoch, seq: Math.max(0, next.seq - 1) } : head;
    if (from !== null && to !== null && (to.epoch !== from.epoch || to.seq > from.seq)) this.#owner.onGap({ from, to, text });
    this.#finish([]);
  }

  /** Delivers the page, and what waited, in order: some of it may be older than the page. */
  #finish(page: Publication[]): void {
    const [first] = page;
    const held = this.#held.splice(0);
    let older = 0;
    held.forEach((event, i) => first && typeof event !== "function" && isBefore(event.position, first.position) && (older = i + 1));
    for (const event of held.splice(0, older)) {
      if (typeof event === "function") event();
      else if (!this.#isDone) this.#owner.deliver(event);
    }
    for (const event of [...page, ...held]) {
      if (typeof event === "function") event();
      else this.#deliver(event);
    }
    if (this.#isDone) return; // a listener left the room
    this.#isDone = true;
    this.#owner.onDone();
  }

  #deliver(publication: Publication): void {
    if (this.#isDone || this.has(publication.position)) return;
    this.#last = publication.position;
    this.#owner.deliver(publication);
  }

  /** Whether it has been delivered: history may be ahead of what the socket brings. */
  has(position: Position): boolean {
    const last = this.#last;
    return last !== null && last.epoch === position.epoch && position.seq <= last.seq;
  }
}

const gone = "the node no longer has the missed publications";

/** One that is not what its format says was an error when it was published. */
function readable(arrival: Arrival): Publication[] {
  try {
    return [toPublication(arrival, true)];
  } catch {
    return [];
  }
}

function isBefore(one: Position, other: Position): boolean {
  return one.epoch === other.epoch && one.seq < other.seq;
}
