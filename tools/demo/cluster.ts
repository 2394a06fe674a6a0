/**
 * A whole cluster to try on this machine: NATS, Redis, three nodes and a load balancer (`npm run demo:cluster`), and an
 * archive and an outbox where PostgreSQL is installed. Open the addresses that it prints, and kill any part: it is started again after a moment, and nobody loses a message.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { SignJWT } from "jose";
import { freePort } from "../../src/node/ports.ts";
import { Part } from "./part.ts";
import { makeDatabase, postgresPrograms, postgresUser } from "./postgres.ts";

const flags = new Command("demo:cluster")
  .description("Runs NATS, Redis, PostgreSQL, three nodes and a load balancer on this machine.")
  .option("--port <n>", "port of the load balancer; 0 takes a free one", "8080")
  .option("--restart-ms <n>", "time until a part that has ended is started again", "2000")
  .option("--no-status", "no status line")
  .parse()
  .opts<{ port: string; restartMs: string; status: boolean }>();

const bin = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "flux-cluster-"));
const people = ["ada", "grace", "edsger"];
const [secret, resumeSecret] = [randomBytes(24).toString("base64url"), randomBytes(24).toString("base64url")];
const [natsPort, redisPort, postgresPort, adminPort] = [await freePort(), await freePort(), await freePort(), await freePort()];
const port = Number(flags.port) || (await freePort());
const nodes = await Promise.all(["gateway-1", "gateway-2", "gateway-3"].map(async (name) => ({ name, port: await freePort(), adminPort: await freePort() })));
const redis = `redis://127.0.0.1:${redisPort}`;
const restartMs = Number(flags.restartMs);
const say = (text: string) => process.stdout.write(`${flags.status && process.stdout.isTTY ? "\r\u001b[K" : ""}${text}\n`);

const postgres = postgresPrograms();
const database = `postgres://flux@127.0.0.1:${postgresPort}/postgres`;
if (postgres !== null) {
  chmodSync(folder, 0o711); // its user may be another one
  makeDatabase(postgres, join(folder, "postgres"));
}
const archived = postgres === null ? [] : ["--archive", database, "--outbox", database, "--namespaces", JSON.stringify({ chat: { archive: true } })];

// A publish counts once Redis and NATS have it: what they had survives their kill.
const parts = [
  new Part("nats", "nats-server", ["-a", "127.0.0.1", "-p", String(natsPort), "-js", "-sd", join(folder, "nats")], { restartMs, say }),
  new Part("redis", "redis-server", ["--port", String(redisPort), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes"], { restartMs, say }),
  ...(postgres === null ? [] : [new Part("postgres", join(postgres, "postgres"), ["-D", join(folder, "postgres", "data"), "-p", String(postgresPort), "-k", "", "-h", "127.0.0.1"], { restartMs, say, user: postgresUser(), signal: "SIGINT" })]),
  ...nodes.map(({ name, port: own, adminPort: ownAdmin }) => new Part(name, process.execPath, [
    "--max-semi-space-size=2", bin, "start", "--node-id", name, "--port", String(own), "--admin-port", String(ownAdmin), "--reactors", "1",
    "--nats", `nats://127.0.0.1:${natsPort}`, "--redis", redis, "--resume-secret", resumeSecret, "--allow-anonymous", "--host", "127.0.0.1",
    // All clients come through the load balancer, which obeys node= in their URLs.
    "--node-url", `ws://127.0.0.1:${port}/ws`, "--placement", "hash", "--placement-stable-ms", "1s",
    "--node-heartbeat-ms", "500", "--node-dead-ms", "2s", "--drain-ms", "1s", "--log-level", "error", ...archived,
  ], { restartMs, say, env: { FLUX_AUTH_SECRET: secret } })),
  new Part("lb", process.execPath, [
    "--max-semi-space-size=2", bin, "lb", "--port", String(port), "--admin-port", String(adminPort), "--redis", redis,
    "--node-heartbeat-ms", "500", "--node-dead-ms", "2s", "--ready-check-ms", "500", "--drain-ms", "1s", "--log-level", "error",
  ], { restartMs, say }),
];

let closing = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void close());
const servers = parts.filter(({ name }) => ["nats", "redis", "postgres"].includes(name));
for (const part of servers) await part.start();
await Promise.all([listens(natsPort), listens(redisPort), ...(postgres === null ? [] : [listens(postgresPort)])]);
for (const part of parts.slice(servers.length)) await part.start();
await until(async () => {
  const { nodes: known } = (await (await fetch(`http://127.0.0.1:${adminPort}/nodes`)).json()) as { nodes: { usable: boolean }[] };
  return known.filter(({ usable }) => usable).length === nodes.length;
});

say(`
The cluster runs. All of these lead through the load balancer:
`);
for (const user of people) say(`  ${user.padEnd(7)} http://127.0.0.1:${port}/#token=${await tokenOf(user)}`);
say(`  anybody http://127.0.0.1:${port}/

Open two of them, and talk. Then end a part, and go on talking:  kill -9 PROCESS
Metrics and nodes of the load balancer: http://127.0.0.1:${adminPort}/nodes
${postgres === null ? `PostgreSQL is not installed, so nothing is archived: bash test/support/services.sh installs it.` : `Messages are archived, and SQL publishes:
  psql ${database} -c "SELECT at, room, sender, convert_from(data, 'UTF8') FROM flux_publications ORDER BY at DESC LIMIT 5"
  psql ${database} -c "SELECT flux.publish('chat:lobby', '{\\"text\\":\\"hi\\"}')"`}
Ctrl+C ends everything.
`);
const timer = setInterval(() => void showStatus(), 1000);

async function showStatus(): Promise<void> {
  if (!flags.status || closing) return;
  const where = await Promise.all(people.map(async (user) => [user, await nodesOf(user)] as const));
  const line = parts.map(({ name, runs }) => {
    const here = where.filter(([, on]) => on.includes(name)).map(([user]) => user);
    return `${name} ${runs ? "up" : "DOWN"}${here.length > 0 ? ` (${here.join(", ")})` : ""}`;
  }).join(" · ");
  process.stdout.write(process.stdout.isTTY ? `\r\u001b[K${line.slice(0, (process.stdout.columns ?? 200) - 1)}` : `${line}\n`);
}

/** Any node that runs knows it of all. */
async function nodesOf(user: string): Promise<string[]> {
  for (const { name, adminPort: at } of nodes) {
    if (!parts.find((part) => part.name === name)!.runs) continue;
    try {
      const response = await fetch(`http://127.0.0.1:${at}/survey?kind=user&user=${user}`, { signal: AbortSignal.timeout(900) });
      const { answers } = (await response.json()) as { answers: { node: string; sessions: number }[] };
      return answers.filter(({ sessions }) => sessions > 0).map(({ node }) => node);
    } catch {
      // The next one may answer.
    }
  }
  return [];
}

function tokenOf(user: string): Promise<string> {
  return new SignJWT({ sub: user }).setProtectedHeader({ alg: "HS256" }).setIssuedAt().setExpirationTime("1d").sign(new TextEncoder().encode(secret));
}

async function listens(at: number): Promise<void> {
  const { connect } = await import("node:net");
  await until(() => new Promise((resolve) => {
    const socket = connect(at, "127.0.0.1", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  }));
}

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  while (!closing && !(await isTrue().catch(() => false))) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function close(): Promise<void> {
  if (closing) return;
  closing = true;
  clearInterval(timer);
  // Clients and nodes first, so that nobody misses what it still needs.
  for (const part of [...parts].reverse()) await part.stop();
  rmSync(folder, { recursive: true, force: true });
  process.exit(0);
}
