/** What every control tells the bench. */

/** One line on stdout: the port. */
export function listening(port: number): void {
  process.stdout.write(`${port}\n`);
}

/** Leaves by itself, so that a profile is written. */
export function leaveOnTerminate(): void {
  process.on("SIGTERM", () => process.exit(0));
}
