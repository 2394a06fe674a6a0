/** Sends by the clock, more precisely than timers, which tick in milliseconds. */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { setImmediate as turn } from "node:timers/promises";
import { micros } from "./clock.ts";
import type { Schedule } from "./orders.ts";

/**
 * Calls `send` for n = 0, 1, … with its intended time. Between two turns of the event loop the thread sleeps at most
 * `napMicros`, which delays the reading of replies by as much.
 *
 * @returns the delay of each `send`, in microseconds.
 */
export async function pace(
  { rate, count, startAt }: Schedule,
  napMicros: number,
  send: (n: number, intendedAt: number) => void,
): Promise<RecordableHistogram> {
  const lateness = createHistogram();
  const interval = 1_000_000 / rate;
  let next = 0;
  while (next < count) {
    let intendedAt = startAt + next * interval;
    for (let now = micros(); next < count && intendedAt <= now; intendedAt = startAt + next * interval) {
      send(next++, intendedAt);
      lateness.record(Math.max(1, Math.round(now - intendedAt)));
    }
    await turn();
    const wait = Math.min(intendedAt - micros(), napMicros);
    if (wait > 20) Atomics.wait(neverWoken, 0, 0, wait / 1000);
  }
  return lateness;
}

const neverWoken = new Int32Array(new SharedArrayBuffer(4));
