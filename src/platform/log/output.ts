/**
 * Writes the log to standard output, synchronously. A full disk or a closed pipe loses the line and has no other
 * effect. Lost lines are counted.
 */
import { writeSync } from "node:fs";
import type { DestinationStream } from "pino";

/** Total time to wait for a slow reader, and the interval of retries. */
const lateMs = 100;
const lookMs = 5;

let lost = 0;

/** Lines that standard output did not accept since the process started. */
export function linesLost(): number {
  return lost;
}

/** @param write replaced in tests */
export function logOutput(write: (bytes: Buffer) => number = (bytes) => writeSync(1, bytes)): DestinationStream {
  /** Whether the last line was written in part. Then the next starts on a new line. */
  let isTorn = false;
  return {
    write(line) {
      let left = Buffer.from(isTorn ? `\n${line}` : line);
      try {
        for (let waitedMs = 0; left.length > 0; ) {
          const written = attempt(write, left);
          if (written === null && (waitedMs += lookMs) > lateMs) throw new Error("no reader");
          if (written === null) pause(lookMs);
          else if (written > 0) {
            isTorn = left.length > written;
            left = left.subarray(written);
          }
        }
      } catch {
        lost++;
      }
    },
  };
}

/** Null: a non-blocking pipe is full. */
function attempt(write: (bytes: Buffer) => number, bytes: Buffer): number | null {
  try {
    return write(bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return null;
    throw error;
  }
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
