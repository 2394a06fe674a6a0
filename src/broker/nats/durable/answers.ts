/**
 * Answers of durable rooms: to this node's publications that a stream has stored, once they are delivered where their
 * room is open here, and to reads of the history.
 */
import type { Answer, Page } from "../../broker.ts";
import type { History } from "../history/history.ts";
import type { Outbox } from "../outbox.ts";
import type { Trouble } from "../streams/trouble.ts";
import type { Stream } from "../streams/streams.ts";
import type { Acked, DurableRoom } from "./room.ts";

export interface AnswersOptions {
  readonly outbox: Outbox;
  readonly history: History;
  readonly unreadable: Trouble;
  streamOf(room: string): Stream | undefined;
}

export class Answers {
  readonly #options: AnswersOptions;

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  /** Answers publications that are delivered by now. */
  settle(room: DurableRoom): void {
    while (room.acked.length > 0 && room.acked[0]!.seq <= room.last) this.give(room.acked.shift()!);
  }

  /** The room's publications are not delivered here any more. */
  giveAll(room: DurableRoom): void {
    for (const acked of room.acked.splice(0)) this.give(acked);
  }

  page(stream: Stream, page: Promise<Answer<Page>>, done: (answer: Answer<Page>) => void): void {
    page.then(
      (answer) => {
        if ("value" in answer) this.#options.unreadable.ends(stream);
        done(answer);
      },
      (error: unknown) => {
        this.#options.unreadable.begins(stream, error);
        done({ error: "unavailable" });
      },
    );
  }

  give({ number, seq, duplicate, epoch }: Acked): void {
    const { outbox, history, unreadable, streamOf } = this.#options;
    const waiting = outbox.take(number);
    if (waiting === undefined) return;
    const value = { epoch, seq, duplicate, ...(!duplicate && waiting.copySeq === seq && { prev: waiting.copyPrev }) };
    if (!waiting.asksFirst) return waiting.done({ value });
    const stream = streamOf(waiting.room);
    if (stream === undefined) return waiting.done({ value });
    history.isFirst(stream, waiting.subject).then(
      (first) => waiting.done({ value: { ...value, first } }),
      (error: unknown) => {
        unreadable.begins(stream, error);
        // It is unknown whether the room was empty before.
        waiting.done({ value: { ...value, first: false } });
      },
    );
  }
}
