/**
 * One clock for all threads: the machine's monotonic clock in microseconds. `performance.now()` counts from the start
 * of its thread, so each thread adds its own offset.
 */
const offset = Number(process.hrtime.bigint()) / 1000 - performance.now() * 1000;

export function micros(): number {
  return performance.now() * 1000 + offset;
}

/** A time as sent in a payload: the low 32 bits, which wrap after 71 minutes. */
export function stamp(atMicros: number): number {
  return atMicros >>> 0;
}

/** Microseconds between two stamps. */
export function since(sentAt: number, now: number): number {
  return (now - sentAt) >>> 0;
}
