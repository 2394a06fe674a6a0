/**
 * A rolling upgrade from an older commit, and back: `npm run test:upgrade -- [COMMIT]`. Without one, the last commit
 * before `--placement`.
 *
 * The commit is unpacked, installed and built in a folder of its own. Two nodes of it serve members who publish. Then one
 * node after the other is replaced by one of this commit, and later the first by one of the old again. In every state
 * each node must list and reach the others, and at the end nobody may have lost a message or got one twice.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startCluster, type Cluster } from "./support/cluster.ts";
import { startPopulation } from "./support/population.ts";
import { until } from "./support/until.ts";

const beforePlacement = "a01e80a";
const size = 2;
const members = 24;

const [commit = beforePlacement] = process.argv.slice(2).filter((word) => word !== "--");
const folder = mkdtempSync(join(tmpdir(), "flux-upgrade-"));
const ends: (() => unknown)[] = [];
try {
  await upgrade(unpack(commit));
} finally {
  for (const end of ends.reverse()) await end();
  rmSync(folder, { recursive: true, force: true });
}

/** @returns the commit's command */
function unpack(revision: string): string {
  const run = (command: string) => execFileSync("bash", ["-c", `set -euo pipefail; ${command}`], { stdio: ["ignore", "ignore", "inherit"] });
  const at = join(folder, "old");
  mkdirSync(at);
  console.log(`unpacking, installing and building ${revision}`);
  run(`git archive '${revision}' | tar -x -C '${at}'`);
  run(`cd '${at}' && npm ci --ignore-scripts --prefer-offline --no-audit --no-fund && node build.mjs`);
  return join(at, "dist/cli/main.js");
}

async function upgrade(oldProgram: string): Promise<void> {
  const isOld = Array.from({ length: size }, () => true);
  const t = { teardown: (end: () => unknown) => void ends.push(end), testdir: () => mkdtempSync(join(folder, "t-")) };
  const cluster = await startCluster(t, { size, flags: ["--drain-ms", "2s"], program: (index) => (isOld[index] ? oldProgram : undefined) });
  const population = await startPopulation(t, cluster.front.url, { room: "log:upgrade", members });
  const pass = async (what: string) => {
    await population.progress(100);
    await agree(cluster);
    console.log(`ok: ${what}`);
  };
  await pass("two nodes of the old commit");
  for (const [index, old] of [[0, false], [1, false], [0, true], [1, true], [1, false]] as const) {
    isOld[index] = old;
    await cluster.restart(index);
    await cluster.ready();
    await pass(`node ${index} is ${old ? "of the old commit again" : "of this commit"}; the nodes: ${isOld.map((one) => (one ? "old" : "new")).join(", ")}`);
  }
  const { lost, faults, acknowledged } = await population.stop();
  if (cluster.failures.length > 0) throw new Error(cluster.failures.join("\n"));
  console.log(`${acknowledged} publications acknowledged, ${lost} lost, ${faults - lost} twice or out of order, ${population.gaps} gaps told`);
  if (faults > 0 || population.gaps > 0) throw new Error("the upgrade lost messages");
}

/** Every node lists every node as up, and gets an answer of every node. */
async function agree({ nodes }: Cluster): Promise<void> {
  const isRight = async () => {
    for (const { adminUrl } of nodes) {
      const { nodes: listed } = (await (await fetch(`${adminUrl}/nodes`)).json()) as { nodes: { id: string; state: string }[] };
      if (listed.map(({ id, state }) => `${id} ${state}`).sort().join() !== nodes.map((_, i) => `node-${i} up`).join()) return false;
      const { sessions, unanswered } = (await (await fetch(`${adminUrl}/survey?kind=health`)).json()) as { sessions: number; unanswered: string[] };
      if (unanswered.length > 0 || sessions < members) return false;
    }
    return true;
  };
  await until(isRight, "all nodes to list and to reach each other", 60_000);
}
