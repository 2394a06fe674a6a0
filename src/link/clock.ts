const origin = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** Milliseconds on a clock that all threads of the process share and that never goes back. */
export function now(): number {
  return origin + performance.now();
}
