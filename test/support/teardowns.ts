/** What a command beside the suite has started, to be ended when it is over; tap's tests have the same. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Teardowns {
  teardown(end: () => unknown): void;
  /** A new folder, gone at the end. */
  testdir(): string;
}

export interface Ending extends Teardowns {
  /** Ends everything, the newest first. */
  end(): Promise<void>;
}

export function createTeardowns(): Ending {
  const ends: (() => unknown)[] = [];
  return {
    teardown: (end) => void ends.push(end),
    testdir: () => {
      const folder = mkdtempSync(join(tmpdir(), "flux-"));
      ends.push(() => rmSync(folder, { recursive: true, force: true }));
      return folder;
    },
    end: async () => {
      for (let end = ends.pop(); end !== undefined; end = ends.pop()) await Promise.resolve().then(end).catch((error: unknown) => console.error(error));
    },
  };
}
