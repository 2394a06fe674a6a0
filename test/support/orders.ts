/** What a test does inside a node's process: its clock steps, its garbage is collected. obey.mjs does it, in every thread. */
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.ts";

export interface Orders {
  /** What the process has to be started with. */
  readonly flags: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Sets the clock of all its threads so far off the machine's. */
  setClock(offMs: number): Promise<void>;
  /** What all its threads hold in memory of their own when their garbage has been collected. */
  heapBytes(): Promise<number>;
  /** The process is gone. */
  end(): void;
}

interface Done {
  readonly number: number;
  readonly thread: number;
  readonly heapBytes: number;
}

const obedient = fileURLToPath(new URL("./obey.mjs", import.meta.url));
const obeyedMs = 120_000;

/** @param threads that the process has, its main thread among them; a reactor that is replaced is another. */
export function createOrders(threads: number): Orders {
  const folder = mkdtempSync(join(tmpdir(), "flux-orders-"));
  const file = join(folder, "orders");
  let last = { number: 0, offMs: 0, collect: false };
  let ended = false;
  const write = (): void => {
    // Whole or not at all: it is read at any time.
    writeFileSync(`${file}.new`, JSON.stringify(last));
    renameSync(`${file}.new`, file);
  };
  write();

  async function give(order: { offMs: number; collect: boolean }): Promise<readonly Done[]> {
    last = { ...order, number: last.number + 1 };
    if (ended) return [];
    write();
    let done: Done[] = [];
    await until(() => {
      const text = existsSync(`${file}.done`) ? readFileSync(`${file}.done`, "utf8") : "";
      done = text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as Done).filter(({ number }) => number === last.number);
      return ended || done.length >= threads;
    }, "all threads of a node to do as they are told", obeyedMs);
    return done;
  }

  return {
    flags: [`--import=${obedient}`],
    env: { ORDERS_OF_TEST: file },
    setClock: async (offMs) => void (await give({ offMs, collect: false })),
    heapBytes: async () => (await give({ ...last, collect: true })).reduce((sum, { heapBytes }) => sum + heapBytes, 0),
    end: () => {
      ended = true;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
