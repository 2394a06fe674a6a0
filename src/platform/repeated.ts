/** Work that is never under way twice: a call meanwhile makes it run once more, and gets the end of that. */
export function repeated(work: () => Promise<void>): { run(): Promise<void>; readonly running: Promise<void> | null } {
  let running: Promise<void> | null = null;
  let again = false;
  const all = async (): Promise<void> => {
    while (again) {
      again = false;
      await work();
    }
  };
  return {
    run() {
      again = true;
      return (running ??= all().finally(() => (running = null)));
    },
    get running() { return running; },
  };
}
