/**
 * The clocks of this process, and so of the hubs of nodes that a test starts in it: as far ahead as the test says. To be
 * imported before anything that takes a clock for its own. Timers, and the clocks of reactors, go on as they are.
 */
import type { Test } from "tap";

let aheadMs = 0;
const [date, steady] = [Date.now, performance.now.bind(performance)];
Date.now = () => date() + aheadMs;
performance.now = () => steady() + aheadMs;

/** Moves both clocks ahead by so many milliseconds, until the test is over. */
export function passHub(t: Pick<Test, "teardown">, ms: number): void {
  aheadMs += ms;
  t.teardown(() => void (aheadMs -= ms));
}
