/**
 * Where the log goes: standard output, written to at once. A disk that is full behind it, or a reader that is gone, costs
 * the line and nothing else. The lines that were lost are counted.
 */
import { writeSync } from "node:fs";
import type { DestinationStream } from "pino";

/** A reader that is late is waited for so long altogether, and asked so often. */
const lateMs = 100;
const lookMs = 5;

let lost = 0;

/** Lines that standard output did not take, since this process began. */
export function linesLost(): number {
  return lost;
}

/** @param write replaced in tests */
export function logOutput(write: (bytes: Buffer) => number = (bytes) => writeSync(1, bytes)): DestinationStream {
  /** The last line was written in part: the next begins a new one. */
  let isTorn = false;
  return {
    write(line) {
      let left = Buffer.from(isTorn ? `\n${line}` : line);
      try {
        for (let waitedMs = 0; left.length > 0; ) {
          const written = attempt(write, left);
          if (written === null && (waitedMs += lookMs) > lateMs) throw new Error("nobody reads it");
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

/** Null: a pipe that does not block is full. */
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
