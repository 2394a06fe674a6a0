/**
 * The system's clock as it is now, which then goes on steadily: the system's clock may be set. Milliseconds since 1970. For
 * what is kept for a time and compared with times that were stored before the process began.
 */
export function steadyClock(): () => number {
  const offset = Date.now() - performance.now();
  return () => performance.now() + offset;
}
