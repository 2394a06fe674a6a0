/** TLS: wss, https and raw TCP with a certificate, which is replaced while sockets stay; bad files are refused by name. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import t, { type Test } from "tap";
import { WebSocket } from "ws";
import type { Client } from "../src/client/index.ts";
import { expiryWarning, readCertificate } from "../src/config/certificate.ts";
import { ConfigError, resolveConfig } from "../src/config/config.ts";
import { folder, makePair, replace, type Pair } from "./support/certificates.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { connectTcp, within } from "./support/rawsocket.ts";
import { rawTcp } from "./support/rawtcp.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { openOn } from "./support/session.ts";
import { until } from "./support/until.ts";

const files = folder(t);
const first = makePair(files, "first");
const second = makePair(files, "second");
const third = makePair(files, "third");

function start(t: Pick<Test, "teardown">, { cert, key }: Pair, options: NodeOptions = {}) {
  return startNode(t, { tcpPort: 0, tlsCert: cert, tlsKey: key, ...options });
}

async function openTls(port: number, ca: string): Promise<TLSSocket> {
  const socket = connectTls({ port, host: "127.0.0.1", ca, ALPNProtocols: [] });
  await within(once(socket, "secureConnect"), "a TLS handshake");
  socket.on("error", () => undefined);
  return socket;
}

/** The common name of the certificate that a new connection is shown; "reset" for one that came as listeners changed. */
async function shownAt(port: number): Promise<string> {
  const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
  const shown = new Promise<string>((resolve) => {
    socket.once("secureConnect", () => resolve(String(socket.getPeerCertificate().subject.CN)));
    socket.on("error", () => resolve("reset"));
  });
  return within(shown, "a TLS handshake").finally(() => socket.destroy());
}

/** A session of the SDK over wss. */
function session(t: Pick<Test, "teardown">, url: string, ca: string): Client {
  class Trusting extends WebSocket {
    constructor(address: string, protocols?: string | string[]) {
      super(address, protocols, { ca });
    }
  }
  return startClient(t, url, { WebSocket: Trusting });
}

t.test("wss, https and TCP are served with the certificate; plain connections and older TLS are not", async (t) => {
  const node = await start(t, first);
  t.match(node.url, /^wss:\/\/127\.0\.0\.1:\d+\/ws$/);
  const client = session(t, node.url, first.ca);
  await isReady(client);
  const room = client.join("chat:a");
  const heard: unknown[] = [];
  await room.joined;
  room.on("publication", ({ data }) => heard.push(data));

  const overTcp = await openOn(rawTcp(await openTls(node.tcpPort!, first.ca)));
  await overTcp.join("chat:a");
  await overTcp.publish("chat:a", '"from TCP"');
  await until(() => heard.length === 1, "the publication over wss");
  t.same(heard, ["from TCP"]);

  const health = await new Promise<number | undefined>((resolve, reject) =>
    get(`https://127.0.0.1:${node.port}/health`, { ca: first.ca, agent: false }, (res) => resolve(res.resume().statusCode)).on("error", reject));
  t.equal(health, 200);
  await t.rejects(fetch(`http://127.0.0.1:${node.port}/health`, { signal: AbortSignal.timeout(10_000) }), "plain HTTP");
  for (const port of [node.port, node.tcpPort!]) {
    const old = connectTls({ port, host: "127.0.0.1", ca: first.ca, minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" });
    await t.rejects(within(once(old, "secureConnect"), "TLS 1.1"), "TLS 1.1 is refused");
  }
  const plain = rawTcp(await connectTcp(node.tcpPort!));
  await plain.write(Buffer.from("0000000408011200", "hex"));
  t.equal(await plain.closed(), "dropped", "frames without TLS");
});

t.test("on TLS a client may close its half as well", async (t) => {
  const node = await start(t, first);
  const overTcp = await openOn(rawTcp(await openTls(node.tcpPort!, first.ca)));
  void overTcp.send({ echo: { payload: Buffer.from("x") } }, 9);
  overTcp.raw.half();
  await overTcp.closed();
  t.ok(overTcp.events.some(({ echo }) => echo));
});

t.test("a new certificate is for new connections, sockets stay and share their rooms; a broken one is refused", async (t) => {
  const live = makePair(files, "live");
  replace(live, first);
  const node = await start(t, live, { reactors: 1 });
  const early = session(t, node.url, first.ca);
  await isReady(early);
  const earlyTcp = await openOn(rawTcp(await openTls(node.tcpPort!, first.ca)));
  const heard: unknown[] = [];
  const room = early.join("chat:a");
  await room.joined;
  room.on("publication", ({ data }) => heard.push(data));
  await earlyTcp.join("chat:a");

  writeFileSync(live.cert, "not a certificate");
  t.equal(node.reloadCertificate(), false);
  replace(live, { ...second, key: first.key });
  t.equal(node.reloadCertificate(), false, "a certificate with another's key");
  t.same(await Promise.all([shownAt(node.port), shownAt(node.tcpPort!)]), ["first", "first"], "the old one stays");

  replace(live, second);
  t.equal(node.reloadCertificate(), true);
  await until2(async () => (await shownAt(node.port)) === "second" && (await shownAt(node.tcpPort!)) === "second");
  t.equal(early.state, "ready", "who was there still is");
  const late = session(t, node.url, second.ca);
  await isReady(late);
  const lateHeard: unknown[] = [];
  const lateRoom = late.join("chat:a");
  await lateRoom.joined;
  lateRoom.on("publication", ({ data }) => lateHeard.push(data));
  for (const [publisher, word] of [[room, "early"], [lateRoom, "late"]] as const) await publisher.publish(word);
  await earlyTcp.publish("chat:a", '"tcp"');
  await until(() => heard.length === 3 && lateHeard.length === 3, "all three, on both sides of the change");
  t.same(heard, ["early", "late", "tcp"]);
  t.same(lateHeard, heard);
  t.equal(earlyTcp.publications.length, 3);
  // Left out is the publisher alone, on whichever side it is.
  await room.publish("not to me", { excludeSelf: true });
  await until(() => lateHeard.length === 4 && earlyTcp.publications.length === 4, "the others");
  await lateRoom.publish("nor to me", { excludeSelf: true });
  await until(() => heard.length === 4 && earlyTcp.publications.length === 5, "the others");
  t.same([heard.at(-1), lateHeard.at(-1)], ["nor to me", "not to me"]);
});

/** As until, for what has to be asked for. */
async function until2(holds: () => Promise<boolean>): Promise<void> {
  await within((async () => {
    while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50));
  })(), "the new certificate");
}

t.test("changed files are noticed, and so is SIGHUP; a fifth certificate sends back who came with the first", async (t) => {
  const live = makePair(files, "watched");
  replace(live, first);
  const node = await startNodeProcess(["--tls-cert", live.cert, "--tls-key", live.key, "--tcp-port", "0", "--reactors", "1"]);
  t.teardown(() => node.stop());
  t.match(node.url, /^wss:/);
  const client = session(t, node.url, first.ca + second.ca + third.ca);
  await isReady(client);
  const id = client.session?.session;
  replace(live, second);
  await until2(async () => (await shownAt(node.port)) === "second");
  for (let i = 0; i < 5; i++) {
    const next = i % 2 === 0 ? third : second;
    replace(live, next);
    process.kill(node.pid, "SIGHUP");
    await until2(async () => (await shownAt(node.port)) === (next === third ? "third" : "second"));
  }
  t.equal(node.ended, undefined);
  await isReady(client);
  t.equal(client.session?.session, id, "the same session");
});

t.test("files that make no certificate are refused before anything listens, each by its option", async (t) => {
  const locked = makePair(files, "locked", { passphrase: "opens" });
  const garbage = join(files, "garbage");
  writeFileSync(garbage, "no PEM");
  const cases: [options: NodeOptions, problem: RegExp][] = [
    [{ tlsCert: first.cert }, /^tlsCert: has no effect without tlsKey; set both$/],
    [{ tlsKey: first.key }, /^tlsKey: has no effect without tlsCert; set both$/],
    [{ tlsCert: join(files, "none"), tlsKey: first.key }, /^--tls-cert: .*none cannot be read.*ENOENT/],
    [{ tlsCert: first.cert, tlsKey: join(files, "none") }, /^--tls-key: .*none cannot be read/],
    [{ tlsCert: garbage, tlsKey: first.key }, /^--tls-cert: .*garbage contains no PEM certificate/],
    [{ tlsCert: first.cert, tlsKey: garbage }, /^--tls-key: .*garbage contains no PEM private key/],
    [{ tlsCert: first.cert, tlsKey: second.key }, /^--tls-key: .*second\.key does not belong to the certificate in .*first\.crt/],
    [{ tlsCert: locked.cert, tlsKey: locked.key }, /^--tls-key: .*locked\.key is encrypted; give its passphrase with --tls-passphrase/],
    [{ tlsCert: locked.cert, tlsKey: locked.key, tlsPassphrase: "wrong" }, /^--tls-passphrase: does not open/],
  ];
  for (const [options, problem] of cases) {
    await t.rejects(startNode(t, options), { message: problem });
  }
  const node = await start(t, locked, { tlsPassphrase: "opens" });
  t.same(await Promise.all([shownAt(node.port), shownAt(node.tcpPort!)]), ["locked", "locked"]);
});

t.test("a certificate that has expired or soon will is warned of, and served", async (t) => {
  const soon = makePair(files, "soon", { days: 3 });
  const certificate = readCertificate(resolveConfig({ options: { tlsCert: soon.cert, tlsKey: soon.key } }).config)!;
  t.match(expiryWarning(certificate), /soon\.crt expires in [23] days/);
  t.match(expiryWarning(certificate, Date.now() + 4 * 86_400_000), /expired on 20/);
  const { config } = resolveConfig({ options: { tlsCert: first.cert, tlsKey: first.key } });
  t.equal(expiryWarning(readCertificate(config)!), null);
  t.throws(() => readCertificate({ ...config, tlsKey: "" }), ConfigError);
});
