/** Whom the tests run as. */
import { readFileSync } from "node:fs";

export const nobody = 65_534;

/** Root, for whom nothing is forbidden. Not who is root in a namespace of its own (unshare --map-root-user). */
export const isRealRoot = process.getuid?.() === 0 && knows(nobody);

/** Whether there is such a user here: the map has lines of `first here, first outside, how many`. */
function knows(user: number): boolean {
  const lines = readFileSync("/proc/self/uid_map", "utf8").trim().split("\n").map((line) => line.trim().split(/\s+/).map(Number));
  return lines.some(([first = 0, , count = 0]) => user >= first && user < first + count);
}
