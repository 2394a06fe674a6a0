/**
 * When streams are looked at: all of them when NATS is back or another node has noticed something, and for reasons that
 * may come often at once, and then once in a time at most. One that does not answer, as while its servers elect a leader,
 * is tried again, and keeps only its own rooms waiting.
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
  /** Counts the times that all were looked at: what was begun in one before is over. */
  #round = 0;
  /** In which of them each stream was looked at last. */
  readonly #known = new Map<Stream, number>();
  #timer: NodeJS.Timeout | null = null;
  #lookedAt = -Infinity;

  /** @param looked a stream is known again; what is done then ends when it is over. */
  constructor(streams: Streams, log: NatsLog, looked: (stream: Stream, isOver: () => boolean) => Promise<void>) {
    this.#streams = streams;
    this.#looked = looked;
    this.#trouble = new Trouble(log, "NATS: a stream could not be looked at; trying again until it can", "NATS: all streams could be looked at again");
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
      if ((this.#known.get(stream) ?? 0) > round) return; // a question of before that was lost
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
