/** What lets a node in at NATS, against servers that ask for it; and what a node says where it is wrong. */
import { copyFileSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import t, { type Test } from "tap";
import { createGateway, ConfigError } from "../dist/index.js";
import { connectNats, watchNats } from "../src/broker/nats/connection/connection.ts";
import { folder, makePair, replace } from "./support/certificates.ts";
import { startNats } from "./support/nats.ts";
import { makeOperator } from "./support/natsauth.ts";
import { resumeSecret, startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { startRedis } from "./support/redis.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const small = { port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", natsPartitions: 1, resumeSecret } as const;

/** It starts, and a publication of a durable room comes back by way of NATS. */
async function works(t: Test, options: NodeOptions, what: string): Promise<void> {
  const node = await createGateway({ ...small, ...options });
  try {
    const session = await open(node);
    await session.join("chat:x");
    const { seq } = await session.publish("chat:x", '"in"');
    await session.waitFor(() => session.publications.some((publication) => publication.seq === seq), what);
    t.equal(session.publications.at(-1)?.payload.toString(), '"in"', what);
  } finally {
    await node.close();
  }
}

async function problem(options: NodeOptions): Promise<string> {
  const failure = await createGateway({ ...small, ...options }).then(
    async (node) => void (await node.close()),
    (error: unknown) => error,
  );
  if (!(failure instanceof ConfigError)) throw new Error(`no ConfigError, but ${String(failure)}`);
  return failure.message;
}

t.test("a user and password, in options or in the address", async (t) => {
  const { url } = await startNats(t, { flags: ["--user", "ann", "--pass", "p@ss/word"] });
  const nats = [url];
  await works(t, { nats, natsUser: "ann", natsPassword: "p@ss/word" }, "by options");
  await works(t, { nats: [url.replace("//", `//ann:${encodeURIComponent("p@ss/word")}@`)] }, "by the address");
  await works(t, { nats: ["nats://127.0.0.1:1", url], natsUser: "ann", natsPassword: "p@ss/word" }, "the first server that answers");
  t.match(await problem({ nats }), /^--nats nats:\S+: the server requires credentials; set --nats-creds, --nats-user/);
  for (const wrong of [{ natsUser: "bob", natsPassword: "p@ss/word" }, { natsUser: "ann", natsPassword: "hunter2" }]) {
    const said = await problem({ nats, ...wrong });
    t.match(said, /rejects --nats-user and --nats-password; correct them/);
    t.notMatch(said, /hunter2|p@ss/);
  }
  const inAddress = await problem({ nats: [url.replace("//", "//ann:hunter2@")] });
  t.match(inAddress, /^--nats nats:\/\/\[hidden\]@\S+: the server rejects the credentials in the address; correct them/);
  t.notMatch(inAddress, /hunter2/);
});

t.test("a token, in an option or in the address", async (t) => {
  const { url } = await startNats(t, { flags: ["--auth", "sesame"] });
  await works(t, { nats: [url], natsToken: "sesame" }, "by the option");
  await works(t, { nats: [url.replace("//", "//sesame@")] }, "by the address");
  const said = await problem({ nats: [url], natsToken: "wrong-sesame" });
  t.match(said, /rejects --nats-token; correct them/);
  t.notMatch(said, /sesame/);
  t.match(await problem({ nats: [url], natsUser: "ann", natsPassword: "p" }), /--nats-user and --nats-password; correct them, or use another of --nats-creds, .* or --nats-token/);
});

t.test("a file of credentials", async (t) => {
  const dir = folder(t);
  const operator = makeOperator(dir);
  const nats = [(await startNats(t, { flags: ["-c", operator.config] })).url];
  await works(t, { nats, natsCreds: operator.creds("good.creds") }, "by the file");
  t.match(await problem({ nats }), /the server requires credentials; set --nats-creds/);
  t.match(await problem({ nats, natsCreds: operator.creds("stranger.creds", { stranger: true }) }), /rejects --nats-creds; correct them/);
  t.match(await problem({ nats, natsCreds: operator.creds("old.creds", { exp: 1_600_000_000 }) }), /the file of --nats-creds, \S+old.creds, expired on 2020-09-13T12:26:40.000Z; create a new one/);
  t.match(await problem({ nats, natsCreds: operator.creds("mixed.creds", { mixedUp: true }) }), /mixed.creds, contains a seed of another user/);
  t.match(await problem({ nats, natsCreds: join(dir, "none.creds") }), /the file of --nats-creds cannot be read: ENOENT/);
  const junk = join(dir, "junk.creds");
  for (const text of ["", "hello", "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\nSUAX\n------END USER NKEY SEED------\n"]) {
    writeFileSync(junk, text);
    t.match(await problem({ nats, natsCreds: junk }), /the file of --nats-creds, \S+junk.creds, contains no JWT and seed of a user; use a .creds file/);
  }
});

t.test("TLS, by the address or by what it needs, with a server that is known", async (t) => {
  const dir = folder(t);
  const [server, other] = [makePair(dir, "server"), makePair(dir, "other")];
  const { url, port } = await startNats(t, { flags: ["--tls", "--tlscert", server.cert, "--tlskey", server.key] });
  await works(t, { nats: [`tls://localhost:${port}`], natsTlsCa: server.cert }, "by the address");
  await works(t, { nats: [url], natsTlsCa: server.cert }, "by the authority");
  for (const address of [url, `tls://127.0.0.1:${port}`]) {
    t.match(await problem({ nats: [address] }), /the server's certificate is not trusted \(self-signed certificate.*\); set --nats-tls-ca to the certificate of its issuer/);
  }
  t.match(await problem({ nats: [url], natsTlsCa: other.cert }), /is not trusted \(.*\); --nats-tls-ca \(\S+other.crt\) must contain the certificate of its issuer/);
  t.match(await problem({ nats: [url], natsTlsCa: server.key }), /the file of --nats-tls-ca, \S+server.key, contains no certificate \(PEM\)/);
  t.match(await problem({ nats: [url], natsTlsCa: join(dir, "none") }), /the file of --nats-tls-ca cannot be read: ENOENT/);
  const elsewhere = makePair(dir, "elsewhere", { names: "DNS:nats.example" });
  const misnamed = await startNats(t, { flags: ["--tls", "--tlscert", elsewhere.cert, "--tlskey", elsewhere.key] });
  t.match(await problem({ nats: [misnamed.url], natsTlsCa: elsewhere.cert }), /the server's certificate is for another name \(.*\); connect by a name in the certificate/);
  const plain = await startNats(t);
  for (const options of [{ nats: [plain.url.replace("nats:", "tls:")] }, { nats: [plain.url], natsTlsCa: server.cert }]) {
    t.match(await problem(options), /the server has no TLS, but tls:\/\/ in an address, --nats-tls-ca or --nats-tls-cert require it/);
  }
});

t.test("a certificate of the node's own, where the server asks for one", async (t) => {
  const dir = folder(t);
  const [server, client, other] = [makePair(dir, "server"), makePair(dir, "client"), makePair(dir, "other")];
  const flags = ["--tlsverify", "--tlscert", server.cert, "--tlskey", server.key, "--tlscacert", client.cert];
  const nats = [(await startNats(t, { flags })).url];
  const known = { nats, natsTlsCa: server.cert };
  await works(t, { ...known, natsTlsCert: client.cert, natsTlsKey: client.key }, "with it");
  // The server ends these without a word: they take as long as a server may that does not answer.
  const [without, stranger] = await Promise.all([problem(known), problem({ ...known, natsTlsCert: other.cert, natsTlsKey: other.key })]);
  t.match(without, /if it requires client certificates, set --nats-tls-cert and --nats-tls-key/);
  t.match(stranger, /it may reject the certificate of --nats-tls-cert \(\S+other.crt\): the server must trust its issuer/);
  t.match(await problem({ ...known, natsTlsCert: client.cert, natsTlsKey: other.key }), /the file of --nats-tls-key, \S+other.key, does not belong to the certificate in \S+client.crt/);
  t.match(await problem({ ...known, natsTlsCert: client.key, natsTlsKey: client.key }), /the file of --nats-tls-cert, \S+client.key, contains no certificate \(PEM\)/);
  t.match(await problem({ ...known, natsTlsCert: client.cert, natsTlsKey: client.cert }), /the file of --nats-tls-key, \S+client.crt, contains no private key \(PEM, without a passphrase\)/);
  const locked = makePair(dir, "locked", { passphrase: "secret" });
  t.match(await problem({ ...known, natsTlsCert: locked.cert, natsTlsKey: locked.key }), /locked.key, contains no private key \(PEM, without a passphrase\)/);
  t.match(await problem({ ...known, natsTlsCert: client.cert, natsTlsKey: join(dir, "none") }), /the file of --nats-tls-key cannot be read: ENOENT/);
});

t.test("files that were replaced count from the next connection on: credentials, and a certificate", async (t) => {
  const dir = folder(t);
  const [before, after] = [makeOperator(folder(t)), makeOperator(folder(t))];
  const jwtServer = await startNats(t, { flags: ["-c", before.config] });
  const creds = before.creds("node.creds");
  const [server, client, newer] = [makePair(dir, "server"), makePair(dir, "client"), makePair(dir, "newer")];
  const clients = join(dir, "clients.pem");
  copyFileSync(client.cert, clients);
  const tlsServer = await startNats(t, { flags: ["--tlsverify", "--tlscert", server.cert, "--tlskey", server.key, "--tlscacert", clients] });
  const byCreds = await startNode(t, { ...small, nats: [jwtServer.url], natsCreds: creds });
  const byCertificate = await startNode(t, { ...small, nats: [tlsServer.url], natsTlsCa: server.cert, natsTlsCert: client.cert, natsTlsKey: client.key });
  await Promise.all([jwtServer.stop(), tlsServer.stop()]);
  copyFileSync(after.config, before.config);
  copyFileSync(after.creds("node.creds"), creds);
  copyFileSync(newer.cert, clients);
  replace(client, newer);
  await Promise.all([jwtServer.start(), tlsServer.start()]);
  for (const node of [byCreds, byCertificate]) {
    await until(async () => sumOf(await node.metrics(), "flux_nats_reconnects_total") > 0 && sumOf(await node.metrics(), "flux_nats_connected") === 1, "it to be let in again");
    t.pass("it is");
  }
});

t.test("an address where no NATS is, and replicas without servers for them", async (t) => {
  t.match(await problem({ nats: ["nats://127.0.0.1:1", "nats://127.0.0.1:2"] }), /^--nats nats:\/\/127.0.0.1:1,nats:\/\/127.0.0.1:2: nothing listens there; start nats-server/);
  t.match(await problem({ nats: ["nats://no-such-host.invalid"] }), /the host name is unknown \(.*\); correct the address/);
  const web = createServer((socket) => void socket.on("error", () => undefined).end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(0, "127.0.0.1");
  await once(web, "listening");
  t.teardown(() => web.close());
  t.match(await problem({ nats: [`nats://127.0.0.1:${(web.address() as AddressInfo).port}`] }), /another kind of server listens there; correct the address/);
  const { url } = await startNats(t);
  t.match(await problem({ nats: [url], natsReplicas: "3" }), /stream FLUX_\w+_0 cannot be created: replicas > 1 .*; --nats-replicas needs as many servers in one cluster; start them, or set it to 1/);
});

t.test("a node that is given NATS without Redis, or the reverse, says at its start what it does not share", async (t) => {
  const [nats, redis] = await Promise.all([startNats(t), startRedis(t)]);
  const given = { nats: ["--nats", nats.url, "--resume-secret", resumeSecret], redis: ["--redis", redis.url], both: ["--nats", nats.url, "--redis", redis.url] };
  const said = async (flags: string[]) => {
    const node = await startNodeProcess(["--reactors", "1", ...flags]);
    t.teardown(() => node.kill());
    return node.complaints.filter((line) => / without --/.test(line)).join();
  };
  const [natsAlone, redisAlone, both] = await Promise.all([said(given.nats), said(given.redis), said(given.both)]);
  t.match(natsAlone, /--nats without --redis: .*sign-out work within one node only/);
  t.match(redisAlone, /--redis without --nats: .*but not rooms/);
  t.equal(both, "");
});

/** Greets as a server does, and refuses whoever says who it is. */
async function refusing(t: Pick<Test, "teardown">, line: string, port = 0): Promise<{ url: string; connections(): number; stop(): Promise<void> }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.on("error", () => undefined);
    socket.write('INFO {"server_id":"S","version":"2.9.10","proto":1,"max_payload":1048576,"headers":true}\r\n');
    socket.once("data", () => socket.end(`-ERR '${line}'\r\n`));
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const stop = () => new Promise<void>((resolve) => server.close(() => resolve()));
  t.teardown(stop);
  return { url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`, connections: () => connections, stop };
}

const refusals: [line: string, told: RegExp][] = [
  ["Authorization Violation", /the server requires credentials; set/],
  ["maximum connections exceeded", /maximum connections exceeded.*max_connections/i],
  ["maximum account active connections exceeded", /maximum account active connections exceeded.*limit.* account/i],
  ["User Authentication Expired", /User Authentication Expired/i],
  ["Secure Connection - TLS Required", /Secure Connection - TLS Required.*tls:\/\//i],
  ["Something that is not known yet", /Something that is not known yet/i],
];

for (const [line, told] of refusals) {
  t.test(`a server that answers -ERR '${line}': the node says what it said`, async (t) => {
    t.match(await problem({ nats: [(await refusing(t, line)).url] }), told);
  });
}

t.test("a server that lets nobody in any more while a node runs: the log says what it answers, not with every attempt, and the node is back when it does", async (t) => {
  const server = await startNats(t);
  const lines: string[] = [];
  const write = (fields: object, text: string) => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const connection = await connectNats({ servers: [server.url], user: "", password: "", token: "", creds: "", tlsCa: "", tlsCert: "", tlsKey: "" }, "test");
  t.teardown(() => connection.close());
  let lost = 0;
  let back = 0;
  watchNats(connection, { info: write, warn: write, error: write }, { disconnected: () => lost++, reconnected: () => back++, refused: () => undefined });
  await server.stop();
  const refusals = await refusing(t, "maximum connections exceeded", Number(new URL(server.url).port));
  await until(() => refusals.connections() >= 8, "the node to try again");
  await refusals.stop();
  t.ok(lines.some((line) => line.includes("maximum connections exceeded")), lines.join("\n"));
  t.ok(lines.length <= 3, lines.join("\n"));
  await server.start();
  await until(() => back === 1, "the node to be connected again");
});

t.test("a server that does not speak NATS any more is left at once, not when a ping is missing", async (t) => {
  let pings = 0;
  const seen: number[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => undefined).on("close", () => seen.push(pings));
    socket.write('INFO {"server_id":"S","version":"2.9.10","proto":1,"max_payload":1048576,"headers":true}\r\n');
    socket.on("data", (bytes) => {
      if (!bytes.toString().includes("PING")) return;
      pings++;
      socket.write("PONG\r\n");
      if (seen.length === 0) socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const log = () => undefined;
  const connection = await connectNats({ servers: [`nats://127.0.0.1:${(server.address() as AddressInfo).port}`], user: "", password: "", token: "", creds: "", tlsCa: "", tlsCert: "", tlsKey: "" }, "test");
  let back = 0;
  watchNats(connection, { info: log, warn: log, error: log }, { disconnected: () => undefined, reconnected: () => back++, refused: () => undefined });
  await until(() => back === 1, "the node to connect again");
  t.equal(seen[0], 1, "no second ping was sent before");
  await connection.close();
});
