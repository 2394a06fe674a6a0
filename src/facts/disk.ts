/**
 * The facts of one node with a data directory: in memory, and in a journal on disk, which is read at start. A node that
 * is killed tells them after its next start, under the ids that they had. A fact is on disk a few milliseconds after
 * the change that it states, like the sessions.
 */
import type { DiskUsage, JournalLog } from "../disk/journal.ts";
import { openLines } from "../disk/lines.ts";
import { randomId } from "../platform/ids.ts";
import { factOf, textOfFact, type DeadLetter, type Subject } from "./facts.ts";
import { FactLists } from "./lists.ts";
import { ownFacts, type MemoryFactsOptions, type OwnedFacts } from "./memory.ts";

export interface DiskFactsOptions extends MemoryFactsOptions {
  readonly folder: string;
  readonly sync: boolean;
  readonly uncommittedBytesMax: number;
  readonly log: JournalLog;
}

export interface DiskFacts extends OwnedFacts {
  disk(): DiskUsage;
}

type Line =
  /** A start of the node, and its first number. */
  | readonly ["epoch", name: string, from: number]
  | readonly ["fact", subject: Subject, text: string]
  /** `cut`: up to which number facts were deleted. */
  | readonly ["told", endpoint: string, subject: Subject, n: number, cut: number]
  | readonly ["bury", endpoint: string, letter: DeadLetter]
  | readonly ["unbury", endpoint: string, ids: readonly string[]]
  | readonly ["off", endpoint: string, url: string];

const sweepMs = 5_000;

/** @throws DataDirError */
export async function createDiskFacts(options: DiskFactsOptions): Promise<DiskFacts> {
  const lists = new FactLists(options);
  const lines = await openLines<Line>({ ...options, what: "webhook events", read: (line) => apply(lists, line), all: () => linesOf(lists) });
  lists.restored();
  const epoch = { name: randomId(9), from: lists.next };
  lists.begin(epoch);
  lines.write(["epoch", epoch.name, epoch.from]);
  const facts = ownFacts(lists, {
    added: (subject, n, fact) => lines.write(["fact", subject, textOfFact({ n, ...fact })]),
    told: (endpoint, subject, n, cut) => lines.write(["told", endpoint, subject, n, cut]),
    buried: (endpoint, letter) => lines.write(["bury", endpoint, letter]),
    unburied: (endpoint, ids) => lines.write(["unbury", endpoint, ids]),
    disabled: (endpoint, url) => lines.write(["off", endpoint, url]),
  }, options.clock);
  const sweeper = setInterval(() => lines.tidy(), sweepMs).unref();
  return {
    ...facts,
    disk: () => lines.usage(),
    async stop() {
      clearInterval(sweeper);
      await lines.stop();
      await facts.stop();
    },
  };
}

function apply(lists: FactLists, line: Line): void {
  switch (line[0]) {
    case "epoch":
      return lists.begin({ name: line[1], from: line[2] });
    case "fact": {
      const fact = factOf(line[2]);
      // Null for one of a newer version: it is not told.
      if (fact !== null) lists.restore(line[1], fact);
      return;
    }
    case "told":
      return lists.restoreTold(line[1], line[2], line[3], line[4]);
    case "bury":
      return lists.bury(line[1], line[2]);
    case "unbury":
      return lists.unbury(line[1], line[2]);
    case "off":
      return lists.disable(line[1], line[2]);
  }
}

function* linesOf(lists: FactLists): Generator<Line> {
  for (const part of lists.all()) {
    switch (part.kind) {
      case "epoch":
        yield ["epoch", part.epoch.name, part.epoch.from];
        break;
      case "fact":
        yield ["fact", part.subject, textOfFact(part.fact)];
        break;
      case "told":
        yield ["told", part.endpoint, part.subject, part.n, 0];
        break;
      case "letter":
        yield ["bury", part.endpoint, part.letter];
        break;
      case "off":
        yield ["off", part.endpoint, part.url];
    }
  }
}
