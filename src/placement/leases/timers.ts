/** Time, as the holder sees it. Monotonic: a wall clock may jump. */
export interface Timers {
  /** ms, of any origin. */
  now(): number;
  /** Calls `run` once, in so many ms. @returns cancels it */
  after(ms: number, run: () => void): () => void;
}

export const realTimers: Timers = {
  now: () => performance.now(),

  after(ms, run) {
    const timer = setTimeout(run, ms).unref();
    return () => clearTimeout(timer);
  },
};
