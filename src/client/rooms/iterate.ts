/** Publications of a room as an async iterable. */
import { fluxError } from "../flux-error.ts";
import type { FluxError } from "../flux-error.ts";
import type { RoomEvents } from "./membership.ts";
import type { Publication } from "./publication.ts";

/** The part of a room that a loop uses. */
type Source<Data> = {
  readonly isLeft: boolean;
  on<Name extends keyof RoomEvents>(name: Name, listener: (event: RoomEvents<Data>[Name]) => void): () => void;
};

/**
 * Yields publications until the room is left. `break` and `signal` end the loop, not the membership.
 * @param max publications that may wait for the loop
 * @param leftFor why the node refused or ended a room that is left; null: the application left it
 */
export async function* iterate<Data>(room: Source<Data>, max: number, leftFor: () => FluxError | null, signal?: AbortSignal): AsyncGenerator<Publication<Data>, void, undefined> {
  if (signal?.aborted) throw signal.reason;
  const waiting: Publication<Data>[] = [];
  let end: { error: unknown } | null = null;
  let wake = () => {};
  const finish = (error: unknown) => {
    end ??= { error };
    wake();
  };
  const abort = () => finish(signal?.reason);
  const stop = [
    room.on("publication", (publication) => {
      if (end !== null) return;
      waiting.push(publication);
      if (waiting.length > max) finish(fluxError("overloaded", `more than ${max} publications waited for the loop`));
      else wake();
    }),
    room.on("left", (error: FluxError | null) => finish(error)),
  ];
  signal?.addEventListener("abort", abort, { once: true });
  if (room.isLeft) finish(leftFor());
  try {
    for (;;) {
      const next = waiting.shift();
      const ended = end as { error: unknown } | null;
      if (ended !== null && (next === undefined || signal?.aborted)) {
        if (ended.error !== null) throw ended.error;
        return;
      }
      if (next === undefined) await new Promise<void>((resolve) => (wake = resolve));
      else yield next;
    }
  } finally {
    for (const off of stop) off();
    signal?.removeEventListener("abort", abort);
  }
}
