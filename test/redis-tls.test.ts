/** Redis over TLS, with a certificate that an authority of one's own has signed: one server, Sentinels, a cluster. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { createGateway, ConfigError } from "../dist/index.js";
import { openRedis } from "../src/redis/open.ts";
import type { RedisLink } from "../src/redis/redis.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { freePort } from "../src/node/ports.ts";
import { folder, makePair, replace } from "./support/certificates.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const dir = folder(t);
const [server, other, elsewhere] = [makePair(dir, "server"), makePair(dir, "other"), makePair(dir, "elsewhere", { names: "DNS:redis.example" })];
const tlsOf = ({ cert, key } = server) => ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"];

/** Its plain port is for the test alone. */
async function startSecure(t: Test, args: readonly string[] = tlsOf()): Promise<{ redis: TestRedis; tlsPort: number }> {
  for (let tries = 1; ; tries++) {
    const tlsPort = await freePort();
    const redis = await startRedis(t, { args: ["--tls-port", String(tlsPort), ...args] }).catch((error: unknown) => {
      // The port may be taken between looking and listening.
      if (tries === 3) throw error;
    });
    if (redis !== undefined) return { redis, tlsPort };
  }
}

async function connect(t: Test, address: string, tlsCa = server.cert): Promise<RedisLink> {
  const link = await openRedis({ target: readRedisTarget(address)!, tlsCa, answerMs: 2_000, log: { info() {}, warn() {} } });
  t.teardown(() => link.close());
  return link;
}

/** A server that has just started, on a busy machine, may not answer in time. */
async function answered(t: Test, address: string, tlsCa = server.cert): Promise<RedisLink> {
  let link: RedisLink | null = null;
  await until(async () => (link ??= await connect(t, address, tlsCa).catch(() => null)) !== null, `${address} to answer`);
  return link!;
}

const problem = (redis: string, redisTlsCa = "") =>
  createGateway({ port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", redis, redisTlsCa, redisPrefix: freshPrefix() }).then(
    async (node) => void (await node.close()),
    (error: unknown) => (error instanceof ConfigError ? error.message : Promise.reject(error)),
  );

t.test("one server: a node that trusts whoever signed its certificate uses it, and any other says what is wrong", async (t) => {
  const { redis, tlsPort } = await startSecure(t);
  const address = `rediss://localhost:${tlsPort}`;
  t.equal(await problem(address, server.cert), undefined, "it starts");
  t.match(await problem(address), /the server's certificate is not trusted \(self-signed certificate.*\); set --redis-tls-ca to the certificate of its issuer/);
  t.match(await problem(address, other.cert), /is not trusted \(.*\); --redis-tls-ca \(\S+other.crt\) must contain the certificate of its issuer/);
  t.match(await problem(address, server.key), /the file of --redis-tls-ca, \S+server.key, holds no certificate \(PEM\)$/);
  t.match(await problem(address, join(dir, "none")), /the file of --redis-tls-ca cannot be read: ENOENT/);
  t.match(await problem(redis.url, server.cert), /^redisTlsCa: applies only to TLS, and the address in redis is not rediss:\/\//);
  const misnamed = await startSecure(t, tlsOf(elsewhere));
  t.match(await problem(`rediss://localhost:${misnamed.tlsPort}`, elsewhere.cert), /the server's certificate is for another name \(.*\); connect by a name in the certificate/);
});

t.test("files that were replaced count from the next connection on", async (t) => {
  const [now, newer] = [makePair(folder(t), "now"), makePair(folder(t), "newer")];
  const { redis, tlsPort } = await startSecure(t, tlsOf(now));
  const link = await connect(t, `rediss://localhost:${tlsPort}`, now.cert);
  await redis.stop();
  await until(() => !link.up, "it to be noticed");
  replace(now, newer);
  await redis.start();
  await until(() => link.up && link.hears, "it to be trusted again");
  t.equal(await link.run("ping"), "PONG");
});

t.test("a cluster", async (t) => {
  const { redis, tlsPort } = await startSecure(t, [...tlsOf(), "--tls-cluster", "yes", "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]);
  await redis.client.call("CLUSTER", "ADDSLOTSRANGE", 0, 16_383);
  await until(async () => String(await redis.client.call("CLUSTER", "INFO")).includes("cluster_state:ok"), "the cluster to be whole");
  const address = `rediss+cluster://localhost:${tlsPort}`;
  const link = await answered(t, address);
  await link.run("set", "a", "1");
  t.equal(await redis.client.get("a"), "1");
  t.match(await problem(address, other.cert), /that the issuer of the servers' certificates is trusted: --redis-tls-ca is \S+other.crt/);
});

t.test("a cluster whose certificate has names only is reached by its name", async (t) => {
  const named = makePair(folder(t), "named", { names: "DNS:localhost" });
  const cluster = ["--tls-cluster", "yes", "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
  const { redis, tlsPort } = await startSecure(t, [...tlsOf(named), ...cluster]);
  await redis.client.call("CLUSTER", "ADDSLOTSRANGE", 0, 16_383);
  await until(async () => String(await redis.client.call("CLUSTER", "INFO")).includes("cluster_state:ok"), "the cluster to be whole");
  const link = await answered(t, `rediss+cluster://localhost:${tlsPort}`, named.cert);
  t.equal(await link.run("set", "a", "1"), "OK");
});

t.test("Sentinels, and the server that they name: nothing is said to either without TLS", async (t) => {
  const { redis, tlsPort } = await startSecure(t, [...tlsOf(), "--tls-replication", "yes"]);
  const port = await freePort();
  const file = join(folder(t), "sentinel.conf");
  const words = [...tlsOf(), "--tls-replication", "yes"].join(" ").split(" --").map((line) => line.replace(/^--/, ""));
  writeFileSync(file, [`tls-port ${port}`, "port 0", "bind 127.0.0.1", ...words, `sentinel monitor main 127.0.0.1 ${tlsPort} 1`, ""].join("\n"));
  const child = spawn("redis-server", [file, "--sentinel"], { stdio: "ignore" });
  await once(child, "spawn");
  t.teardown(() => child.kill("SIGKILL"));
  const address = `rediss+sentinel://localhost:${port}/main`;
  const link = await answered(t, address);
  await link.run("set", "a", "1");
  t.equal(await redis.client.get("a"), "1");
  t.match(await problem(address, other.cert), /that the issuer of the servers' certificates is trusted: --redis-tls-ca is \S+other.crt/);
});
