/** Work that is never under way twice: a call meanwhile makes it run once more, and gets the end of that. */
export function repeated(work: () => Promise<void>): { run(): Promise<void>; readonly running: Promise<void> | null } {
  let running: Promise<void> | null = null;
  let again = false;
  const begin = async () => work();
  const all = async (): Promise<void> => {
    try {
      while (again) {
        again = false;
        await begin();
      }
    } finally {
      // In the turn of the last look at `again`: a call right after it must not get the end of what is over.
      running = null;
    }
  };
  return {
    run() {
      again = true;
      return (running ??= all());
    },
    get running() { return running; },
  };
}
