/**
 * Milliseconds since 1970 that go on steadily. It begins with the system's clock, so times that an earlier process has stored
 * can be compared with it. Setting the system's clock does not move it.
 */
export function steadyClock(): () => number {
  const offset = Date.now() - performance.now();
  return () => performance.now() + offset;
}
