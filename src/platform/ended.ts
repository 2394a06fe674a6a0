/** Waiting that has an end. */

/** Returns when the work is done, or after a time. */
export async function endedWithin(work: Promise<unknown>, ms: number): Promise<void> {
  let timer!: NodeJS.Timeout;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
}
