/**
 * Spreads over time what the client sends by itself, at the node's rate: at most one second's worth at once. The node
 * allows twice that. So it never rejects a publish within this pace with rate_limited, and a retry never breaks the
 * order. Joins after a reconnect, reads of history and lists of users wait for their turn here.
 */
import type { ClientFrame, Ready } from "../../protocol/messages.ts";
import { pageSizeMax } from "../../protocol/limits.ts";
import type { Cancel, Clock } from "../clock.ts";

/** Publishes that may go first while a command waits for its turn. */
const publishesFirst = 4;
/** Cost of checking a token, in commands. */
const refreshCost = 20;

export class Pace {
  readonly #clock: Clock;
  readonly #commands: Bucket;
  readonly #bytes: Bucket;
  /** What the node has told of the costs; 0: nothing, so nothing waits. */
  #publicationsPerCommand = 0;
  #recoveryCost = 0;
  #waiting: { cost: number; run: () => void }[] = [];
  #cancel: Cancel | null = null;
  #publishes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#commands = new Bucket(clock);
    this.#bytes = new Bucket(clock);
  }

  set({ commandsPerSecond, bytesPerSecond, maxFrameBytes, publicationsPerCommand, recoveryCost }: Ready): void {
    this.#commands.set(commandsPerSecond ?? 0, 0);
    this.#bytes.set(bytesPerSecond ?? 0, maxFrameBytes ?? 0);
    this.#publicationsPerCommand = publicationsPerCommand ?? 0;
    this.#recoveryCost = recoveryCost ?? 0;
  }

  /** For a publish. 0: send now. Otherwise: milliseconds to wait before asking again. */
  take(bytes = 0): number {
    const [first] = this.#waiting;
    if (first !== undefined && this.#publishes >= publishesFirst) return Math.max(1, this.#commands.waitMs(first.cost));
    const waitMs = Math.max(this.#commands.waitMs(1), this.#bytes.waitMs(bytes));
    if (waitMs > 0) return waitMs;
    this.#commands.spend(1);
    this.#bytes.spend(bytes);
    this.#publishes++;
    return 0;
  }

  /** For a command of the application, which does not wait. */
  spend(command: ClientFrame): void {
    this.#commands.spend(this.#costOf(command));
  }

  /** Calls `run` when the node will take the command: now, or later; or when stop() is called. */
  turn(command: ClientFrame, run: () => void): void {
    const entry = { cost: this.#costOf(command), run };
    // A room that is joined gets all it needs before the next one is joined.
    if (command.history) this.#waiting.unshift(entry);
    else this.#waiting.push(entry);
    if (this.#cancel === null) this.#flush();
  }

  /** The session is lost: nothing waits any longer. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    for (const { run } of this.#waiting.splice(0)) run();
  }

  #flush(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const waitMs = this.#commands.waitMs(first.cost);
      if (waitMs > 0) {
        this.#cancel = this.#clock.after(waitMs, () => {
          this.#cancel = null;
          this.#flush();
        });
        return;
      }
      this.#commands.spend(first.cost);
      this.#publishes = 0;
      this.#waiting.shift();
      first.run();
    }
  }

  /** In commands, as the node counts. */
  #costOf({ join, history, presence, watch, refresh }: ClientFrame): number {
    if (this.#publicationsPerCommand === 0) return 0;
    if (refresh) return refreshCost;
    if (join?.recover) return 1 + this.#recoveryCost;
    const read = join?.history ?? history?.limit ?? watch?.users?.length ?? (presence && !presence.countsOnly ? presence.limit || pageSizeMax : 0);
    return 1 + Math.min(read, pageSizeMax) / this.#publicationsPerCommand;
  }
}

/** Fills with time, up to one second's worth. */
class Bucket {
  readonly #clock: Clock;
  #perSecond = 0;
  #max = 0;
  #allowed = 0;
  #countedAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @param perSecond 0: no limit @param least what may be used at once, whatever the rate */
  set(perSecond: number, least: number): void {
    this.#perSecond = perSecond;
    this.#allowed = this.#max = Math.max(perSecond, least);
    this.#countedAt = this.#clock.now();
  }

  /** Until there is so much. What exceeds the bucket needs all of it. */
  waitMs(cost: number): number {
    if (this.#perSecond === 0) return 0;
    const now = this.#clock.now();
    this.#allowed = Math.min(this.#max, this.#allowed + ((now - this.#countedAt) * this.#perSecond) / 1000);
    this.#countedAt = now;
    const missing = Math.min(cost, this.#max) - this.#allowed;
    return missing > 0 ? Math.ceil((missing * 1000) / this.#perSecond) : 0;
  }

  spend(cost: number): void {
    this.#allowed = Math.max(-this.#max, this.#allowed - Math.min(cost, this.#max));
  }
}
