/**
 * Clients and nodes of two versions: `npm run test:mixed -- [COMMIT]`. Without one, the last commit before nodes gave
 * clients what is kept behind a lost position.
 *
 * The commit is unpacked, installed and packed in a folder of its own. Its SDK then talks to a node of this commit, the
 * SDK of this commit to a node of the old one, and each to its own. In every pair a client must lose nothing in silence:
 * each publication is delivered once and in order, or lies within a gap.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { until } from "./support/until.ts";

const beforeKept = "716b8b0";
const root = fileURLToPath(new URL("..", import.meta.url));
const historySize = 50;
const published = 300;
const roomsMany = 100;

type Sdk = typeof import("../src/client/index.ts");

const [commit = beforeKept] = process.argv.slice(2).filter((word) => word !== "--");
const folder = mkdtempSync(join(tmpdir(), "flux-mixed-"));
try {
  const old = unpack(commit);
  const config = join(folder, "config.json");
  writeFileSync(config, JSON.stringify({ namespaces: { chat: { durable: true, historySize } } }));
  const builds = { old: { folder: old, sdk: await sdkOf(old) }, new: { folder: root, sdk: await sdkOf(root) } };
  for (const [client, server] of [["old", "new"], ["new", "old"], ["old", "old"], ["new", "new"]] as const) {
    const node = await startNodeProcess(["--config", config, "--commands-per-second", "100"], { program: join(builds[server].folder, "dist/cli/main.js") });
    try {
      const told = await talk(builds[client].sdk, node);
      console.log(`ok: an SDK of the ${client} commit with a node of the ${server} one: ${told}`);
      if (client === server) console.log(`ok: a client that offers JSON arrays before JSON, with a node of the ${server} commit: ${await talkJson(node)}`);
    } finally {
      await node.stop();
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function unpack(revision: string): string {
  const run = (command: string) => execFileSync("bash", ["-c", `set -euo pipefail; ${command}`], { stdio: ["ignore", "ignore", "inherit"] });
  const at = join(folder, "old");
  mkdirSync(at);
  console.log(`unpacking, installing and building ${revision}`);
  run(`git archive '${revision}' | tar -x -C '${at}'`);
  run(`cd '${at}' && npm ci --ignore-scripts --prefer-offline --no-audit --no-fund && node build.mjs`);
  return at;
}

async function sdkOf(at: string): Promise<Sdk> {
  return (await import(join(at, "dist/client/index.js"))) as Sdk;
}

/** A client of any version of the node. @returns the subprotocol that the node chose */
async function talkJson({ url }: NodeProcess): Promise<string> {
  const offer = ["flux.v1.json-arrays", "flux.v1.json"];
  const socket = new WebSocket(url, offer);
  const frames: Record<string, { seq: string }>[] = [];
  socket.on("message", (data: Buffer) => {
    const message = JSON.parse(data.toString()) as (typeof frames)[0] | typeof frames;
    if (Array.isArray(message) !== (socket.protocol === offer[0])) throw new Error(`a message of ${socket.protocol}: ${data.toString()}`);
    frames.push(...(Array.isArray(message) ? message : [message]));
  });
  try {
    await once(socket, "open");
    socket.send(JSON.stringify({ id: 1, hello: { version: 1 } }));
    await until(() => frames.some(({ ready }) => ready), "ready");
    const publish = { publish: { room: "chat:json", data: 1 } };
    socket.send(JSON.stringify([{ id: 2, join: { room: "chat:json" } }, publish, publish, publish]));
    const seqs = () => frames.flatMap(({ publication }) => (publication ? [Number(publication.seq)] : []));
    await until(() => seqs().length === 3, "the publications");
    if (seqs().some((seq, i) => seq !== seqs()[0]! + i)) throw new Error(`publications ${seqs().join()}`);
    return socket.protocol;
  } finally {
    socket.terminate();
  }
}

/** @returns what happened, for a person */
async function talk({ connect }: Sdk, node: NodeProcess): Promise<string> {
  const options = { WebSocket, backoff: { baseMs: 20, capMs: 200 } };
  const [ann, bob] = [connect(node.url, options), connect(node.url, options)];
  const errors: string[] = [];
  for (const client of [ann, bob]) client.on("error", ({ code, text }) => errors.push(`${code}: ${text}`));
  try {
    const room = ann.join("chat:a", { history: historySize });
    const heard: { from: number; to: number; gap: boolean }[] = [];
    room.on("publication", ({ position: { seq } }) => heard.push({ from: seq - 1, to: seq, gap: false }));
    room.on("gap", ({ from, to }) => heard.push({ from: from.seq, to: to.seq, gap: true }));
    const writer = bob.join("chat:a");
    await Promise.all([room.joined, writer.joined]);
    await writer.publish(1);
    await until(() => heard.length === 1, "the first");
    await ann.suspend();
    for (let n = 2; n <= published; n++) await writer.publish(n);
    ann.wake();
    await until(() => ann.state === "ready" && heard.length > 1, "the client to be told");
    await writer.publish(published + 1);
    await until(() => heard.at(-1)?.to === published + 1, "what comes then");
    heard.reduce((at, { from, to }) => {
      if (from !== at) throw new Error(`${at} is followed by ${from}: ${JSON.stringify(heard)}`);
      return to;
    }, 0);
    const page = await room.history({ limit: 10 });
    if (page.publications.length !== 10) throw new Error("the history is not whole");
    const members = room.members();
    await until(() => members.users === 2, "both members");
    const [status] = await ann.watch([bob.session!.user]);
    if (status?.online !== true) throw new Error("the watched user is not online");
    const messages: unknown[] = [];
    bob.onMessage(({ data }) => void messages.push(data));
    await ann.send(bob.session!.user, "hello");
    await until(() => messages.length === 1, "the direct message");
    for (let n = 0; n < roomsMany - 1; n++) ann.join(`chat:${n}`);
    await until(async () => (await node.metric("flux_members")) >= roomsMany, "all rooms");
    if (errors.length > 0) throw new Error(errors.join());
    const given = heard.filter(({ gap }) => !gap).length;
    return `${given} of ${published + 1} publications delivered, ${heard.length - given} gap`;
  } finally {
    await Promise.all([ann.close(), bob.close()]);
  }
}
