/** What every control reports to the bench. */

/** Prints the port as one line on stdout. */
export function listening(port: number): void {
  process.stdout.write(`${port}\n`);
}

/** Exits by itself on SIGTERM, so that V8 writes a profile. */
export function leaveOnTerminate(): void {
  process.on("SIGTERM", () => process.exit(0));
}

/** What controls of the HTTP API answer. */
export const published = '{"position":"7awFeLlP:1000000","receivers":0,"duplicate":false}';
