/**
 * Schedules checks of streams. All are checked when NATS is back or another node reports a change. For frequent causes
 * a check runs at once, and then at most once per interval. A stream that does not answer, as during the election of a
 * leader, is retried and delays only its own rooms.
 */
import type { NatsLog } from "../connection/connection.ts";
import type { Stream, Streams } from "./streams.ts";
import { Trouble } from "./trouble.ts";

const lookAgainMs = 2_000;
const retryMs = 250;

export class Looks {
  readonly #streams: Streams;
  readonly #looked: (stream: Stream, isOver: () => boolean) => Promise<void>;
  readonly #trouble: Trouble;
  #connected = true;
  /** Number of the current check of all streams. Work of an earlier one is obsolete. */
  #round = 0;
  /** Check in which each stream last answered. */
  readonly #known = new Map<Stream, number>();
  #timer: NodeJS.Timeout | null = null;
  #lookedAt = -Infinity;

  /** @param looked called when a stream is known again; its work ends when `isOver`. */
  constructor(streams: Streams, log: NatsLog, looked: (stream: Stream, isOver: () => boolean) => Promise<void>) {
    this.#streams = streams;
    this.#looked = looked;
    this.#trouble = new Trouble(log, "NATS: a stream cannot be checked: its rooms wait while the node retries; check the NATS servers", "NATS: all streams can be checked again");
  }

  get connected(): boolean {
    return this.#connected;
  }

  disconnected(): void {
    this.#connected = false;
  }

  reconnected(): void {
    this.#connected = true;
    this.atAll();
  }

  ask(): void {
    if (this.#timer !== null) return;
    const inMs = Math.max(0, this.#lookedAt + lookAgainMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#lookedAt = performance.now();
      if (this.#connected) this.atAll();
    }, inMs).unref();
  }

  atAll(): void {
    const round = ++this.#round;
    for (const stream of this.#streams.all()) this.#at(stream, round);
  }

  stop(): void {
    this.#round++;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #at(stream: Stream, round: number): void {
    this.#look(stream, round).catch((error: unknown) => {
      if ((this.#known.get(stream) ?? 0) > round) return; // a lost request of an earlier check
      this.#trouble.begins(stream, error);
      setTimeout(() => {
        if (round === this.#round && this.#connected) this.#at(stream, round);
      }, retryMs).unref();
    });
  }

  async #look(stream: Stream, round: number): Promise<void> {
    await this.#streams.refresh(stream);
    this.#known.set(stream, round);
    this.#trouble.ends(stream);
    if (round === this.#round) await this.#looked(stream, () => round !== this.#round);
  }
}
