/**
 * Clients and nodes that do the load balancer harm, or mean to: each costs a bounded amount, and nobody else notices.
 * The full count of silent clients, 10,000, is a command of its own: npm run test:lb-silent
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import t, { type Test } from "tap";
import { lbConfig, openRaw, startBalancer, startFakeNode, upgradeTo, whoAnswers } from "./support/balancer.ts";
import { factsOf } from "../src/contracts/registry.ts";
import { listed } from "../src/lb/members.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";
import { Door } from "../src/lb/door.ts";
import { FirstRequest } from "../src/lb/firstbytes.ts";
import { Health } from "../src/lb/health.ts";
import { createLink, dial, join } from "../src/lb/link.ts";
import { Nodes, type BalancedNode } from "../src/lb/nodes.ts";
import { folder, makePair } from "./support/certificates.ts";
import { startNode } from "./support/node.ts";
import { until } from "./support/until.ts";

const node = await startFakeNode(t, "a");
const nodes = [node.listed];

/** A client that talks through the balancer before, while and after something bad happens. */
async function witness(t: Pick<Test, "teardown">, port: number) {
  const raw = await openRaw(port, upgradeTo("/echo?user=witness"));
  t.teardown(() => raw.socket.destroy());
  await until(() => raw.text().includes("\r\n\r\n"), "the upgrade");
  let said = 0;
  return async () => {
    const text = `still here ${++said};`;
    raw.socket.write(text);
    await until(() => raw.text().endsWith(text), "the witness to be heard");
  };
}

t.test("silent clients wait at no cost for a node, and the longest waiting make room for those that speak", async (t) => {
  const balancer = await startBalancer(t, { nodes, policy: "hash", connectionsMax: 20, readyCheckMs: 600_000 });
  const speaks = await witness(t, balancer.port);
  const before = node.sockets.size;
  const silent = await Promise.all(Array.from({ length: 100 }, () => openRaw(balancer.port)));
  await until(() => balancer.usage().counts.accepted === 101, "all to be accepted");
  const { counts } = balancer.usage();
  t.equal(node.sockets.size, before, "no node has seen any of them");
  t.ok(counts.waiting <= 38, "20 clients may have 40 files, and the witness has two");
  t.equal(counts.refused.silent! + counts.waiting, 100, "the others have made room");
  t.equal(counts.refused.full, 0);
  await speaks();
  t.equal(await whoAnswers(balancer.port, "/who?user=late"), "a", "a client that speaks is served");
  for (const { socket } of silent) socket.destroy();
  await until(() => balancer.usage().counts.waiting === 0, "them to be forgotten");
});

t.test("with every place taken by clients that speak, a new one is refused, and the others go on", async (t) => {
  const balancer = await startBalancer(t, { nodes, policy: "round-robin", connectionsMax: 3, readyCheckMs: 600_000 });
  const speaks = await witness(t, balancer.port);
  const others = [await openRaw(balancer.port, upgradeTo("/echo")), await openRaw(balancer.port, upgradeTo("/echo"))];
  await until(() => balancer.usage().counts.joined === 3, "three");
  const fourth = await openRaw(balancer.port).catch(() => null);
  await fourth?.closed;
  t.match(balancer.usage().counts, { joined: 3, refused: { full: 1 } });
  await speaks();
  others[0]!.socket.destroy();
  await until(() => balancer.usage().counts.joined === 2, "a free place");
  t.equal(await whoAnswers(balancer.port, "/who"), "a");
  others[1]!.socket.destroy();
});

t.test("who has sent no whole request by firstBytesMs is closed, however slowly it goes on", (t) => {
  const clock = { time: 0 };
  const door = new Door({ nodes: new Nodes(), config: lbConfig({ nodes, firstBytesMs: 10_000 }), dialFailed() {}, clock: () => clock.time });
  t.teardown(() => door.close());
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => door.accept(socket, false)).listen(0, "127.0.0.1");
  t.teardown(() => server.close());
  return once(server, "listening").then(async () => {
    const { port } = server.address() as AddressInfo;
    const [silent, slow] = [await openRaw(port), await openRaw(port, "GET /ws?us")];
    await until(() => door.counts.waiting === 2, "both to wait");
    clock.time = 9_999;
    slow.socket.write("er=x HT");
    door.sweep();
    t.equal(door.counts.waiting, 2);
    clock.time = 10_000;
    door.sweep();
    await Promise.all([silent.closed, slow.closed]);
    t.match(door.counts, { waiting: 0, refused: { slow: 2 } });
  });
});

t.test("a request says the same however it is cut, and random bytes are never more than a guess", (t) => {
  const request = Buffer.from("GET /ws?x=1&tenant=a%20b&user=Zo%C3%AB+1 HTTP/1.1\r\nHost: x\r\n\r\n");
  const header = Buffer.from("GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer e30.eyJzdWIiOiJhbm4ifQ.x\r\n\r\n");
  for (const whole of [request, header]) {
    const wanted = new FirstRequest().read(whole);
    t.equal(wanted.kind, "http");
    for (let cut = 1; cut < whole.length; cut++) {
      const reader = new FirstRequest();
      const first = reader.read(whole.subarray(0, cut));
      const read = first.kind === "more" ? reader.read(whole) : first;
      if (JSON.stringify(read) !== JSON.stringify(wanted)) t.fail(`cut at ${cut}: ${JSON.stringify(read)}`);
    }
  }
  for (let i = 0; i < 500; i++) {
    const bytes = i % 2 === 0 ? randomBytes(i) : Buffer.concat([Buffer.from("GET /?"), randomBytes(i), Buffer.from("\n\r\n\r\n")]);
    if (!/^(more|other|http)$/.test(new FirstRequest().read(bytes).kind)) t.fail(bytes.toString("hex"));
  }
  for (const odd of ["?user", "?=&&=x", "?user=%", "?user=%ff&node=%zz", "?__proto__=1&constructor=2&toString=3", `?token=${"a".repeat(9_000)}.b.c`, "?token=a.bnVsbA.c", "?ticket=" + "-".repeat(44)]) {
    t.equal(new FirstRequest().read(Buffer.from(`GET /ws${odd} HTTP/1.1\r\n\r\n`)).kind, "http", odd);
  }
  t.end();
});

t.test("a first request of 64 KiB without an end is refused at firstBytesMax, and holds no more", async (t) => {
  const balancer = await startBalancer(t, { nodes, policy: "hash", readyCheckMs: 600_000 });
  const speaks = await witness(t, balancer.port);
  for (const endless of [`GET /ws?x=${"a".repeat(65_536)}`, `GET /ws HTTP/1.1\r\n${"Header: value\r\n".repeat(4_400)}`]) {
    const raw = await openRaw(balancer.port, endless);
    await raw.closed;
    raw.socket.destroy();
  }
  await until(() => balancer.usage().counts.refused.large === 2, "both to be refused");
  t.equal(balancer.usage().counts.joined, 1, "the witness alone");
  await speaks();
});

t.test("garbage and TLS go to a node by the client's address, and what the node makes of it is between the two", async (t) => {
  const balancer = await startBalancer(t, { nodes, policy: "hash", readyCheckMs: 600_000 });
  const speaks = await witness(t, balancer.port);
  const raws = [];
  for (const first of [Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]), Buffer.alloc(5_000, 0xff), Buffer.from("GETX / HTTP/1.1\r\n\r\n"), Buffer.from("PRI * HTTP/2.0\r\n\r\n")]) {
    raws.push(await openRaw(balancer.port, first));
  }
  await until(() => balancer.usage().nodes[0]!.opened === 5, "all to arrive");
  for (const { socket } of raws) socket.destroy();
  await until(() => balancer.usage().counts.joined === 1, "the others to be gone");
  await speaks();
});

t.test("clients that close halfway, reset, or vanish before their node answers leave nothing behind", async (t) => {
  const balancer = await startBalancer(t, { nodes, policy: "hash", readyCheckMs: 600_000 });
  const speaks = await witness(t, balancer.port);
  for (let i = 0; i < 20; i++) {
    const first = ["", "GET /ws", upgradeTo("/echo?user=x"), Buffer.alloc(40_000, 1)][i % 4]!;
    const { socket } = await openRaw(balancer.port, first);
    if (i % 3 === 0) socket.end();
    else if (i % 3 === 1) socket.resetAndDestroy();
    else socket.destroy();
    if (i % 3 === 0) setImmediate(() => socket.destroy());
  }
  await until(() => {
    const { waiting, dialling, joined } = balancer.usage().counts;
    return waiting + dialling + joined === 1 && balancer.usage().nodes[0]!.open === 1;
  }, "the witness to be alone");
  await speaks();
});

t.test("a client that reads nothing holds up its node alone: what is queued for it is bounded", async (t) => {
  let written = 0;
  const flood = createServer((socket) => {
    const write = () => {
      while (socket.write(Buffer.alloc(65_536))) written += 65_536;
      written += 65_536;
    };
    socket.on("error", () => undefined).on("drain", write);
    write();
  }).listen(0, "127.0.0.1");
  await once(flood, "listening");
  t.teardown(() => flood.close());
  const balancer = await startBalancer(t, { nodes: [`flood=127.0.0.1:${(flood.address() as AddressInfo).port}`], policy: "round-robin", readyCheckMs: 600_000 });
  const { socket } = await openRaw(balancer.port);
  socket.pause();
  // Until nothing moves any more: the sockets of the kernel are full, and one read waits in the balancer.
  let last = -1;
  await until(() => {
    const isStill = written > 0 && written === last;
    last = written;
    return isStill;
  }, "the flood to stop");
  const { toClients } = balancer.usage().bytes;
  t.ok(written >= toClients, "it has read no more than was written");
  t.ok(toClients < 64 * 2 ** 20, `${toClients} bytes have left the node`);
  socket.destroy();
  await until(() => balancer.usage().counts.joined === 0, "it to be forgotten");
});

t.test("a node that accepts and says nothing costs its own clients only, until the checks take it out", async (t) => {
  const mute = await startFakeNode(t, "mute");
  const balancer = await startBalancer(t, { nodes: [node.listed, mute.listed], policy: "round-robin", dialMs: 100 });
  const speaks = await witness(t, balancer.port);
  mute.silent = true;
  const held = [await openRaw(balancer.port, upgradeTo("/echo")), await openRaw(balancer.port, upgradeTo("/echo"))];
  await until(() => !balancer.usage().nodes.find(({ id }) => id === "mute")!.usable, "the checks");
  for (let i = 0; i < 4; i++) t.equal(await whoAnswers(balancer.port, "/who"), "a");
  await speaks();
  for (const { socket } of held) socket.destroy();
});

t.test("entries in Redis that no node has written make no node, and no line in a configuration", (t) => {
  const good: RegisteredNode = { id: "a", ...factsOf(1), ip: "10.0.0.1", port: 80, tcpUrl: "tcp://[fd00::1]:9000", state: "up", last_heartbeat: 1, silentMs: 0 };
  t.match(listed(good, "web"), [{ id: "a", host: "10.0.0.1", port: 80 }]);
  t.match(listed(good, "tcp"), [{ host: "fd00::1", port: 9000 }]);
  const wrong: Partial<RegisteredNode>[] = [{ id: "a\n  server evil 6.6.6.6:80" }, { id: "" }, { ip: "10.0.0.1:80 check\n" }, { ip: "" }, { port: 0 }, { port: 65_536 }, { port: 1.5 }, { port: NaN }];
  for (const fields of wrong) t.same(listed({ ...good, ...fields }, "web"), [], JSON.stringify(fields));
  for (const tcpUrl of ["", "tcp://", "tcp://h", "tcp://h:0", "tcp://h:99999", "tcp://a b:1", "%", undefined]) t.same(listed({ ...good, tcpUrl }, "tcp"), [], String(tcpUrl));
  t.end();
});

t.test("a spoofed PROXY header changes nothing: nodes do not use the address in it", async (t) => {
  const gateway = await startNode(t, { reactors: 1 });
  const balancer = await startBalancer(t, { nodes: [`real=127.0.0.1:${gateway.port}`], policy: "hash", readyCheckMs: 600_000 });
  const spoofed = Buffer.from("0d0a0d0a000d0a515549540a" + "2111000c" + "0a0000010a000002" + "04d20050", "hex");
  for (const port of [gateway.port, balancer.port]) {
    const { socket, text, closed } = await openRaw(port, Buffer.concat([spoofed, Buffer.from("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")]));
    await Promise.race([closed, until(() => text().includes("\r\n\r\n"), "an answer")]);
    t.match(text(), /^(HTTP\/1\.1 (200|400)|$)/);
    t.notMatch(text(), /10\.0\.0\.1/);
    socket.destroy();
    const broken = await openRaw(port, Buffer.concat([spoofed.subarray(0, 14), Buffer.from("ffff", "hex"), Buffer.alloc(200, 0x20)]));
    broken.socket.destroy();
  }
  t.equal((await fetch(`http://127.0.0.1:${balancer.port}/health`)).status, 200, "the node serves on");

  const pair = makePair(folder(t), "lb");
  for (const policy of ["hash", "round-robin"] as const) {
    const secure = await startBalancer(t, { nodes: [`real=127.0.0.1:${gateway.port}`], policy, tlsCert: pair.cert, tlsKey: pair.key, sendProxy: true, readyCheckMs: 600_000 });
    for (const [first, status] of [[Buffer.alloc(0), /^HTTP\/1\.1 200/], [spoofed, /^(HTTP\/1\.1 (400|505)|$)/]] as const) {
      const client = connectTls({ port: secure.port, host: "127.0.0.1", ca: pair.ca, servername: "localhost" });
      let said = "";
      let isClosed = false;
      client.on("data", (chunk: Buffer) => (said += chunk.toString())).on("error", () => undefined).on("close", () => (isClosed = true));
      client.write(Buffer.concat([first, Buffer.from("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")]));
      await until(() => said.includes("\r\n\r\n") || isClosed, "a real node to answer behind a PROXY header, or to close");
      t.match(said, status, `${policy}: a client's own header is its request, behind that of the load balancer`);
      client.destroy();
    }
  }
});

t.test("ports above 65535 are no ports, and a node that gives one costs nobody else", async (t) => {
  t.throws(() => lbConfig({ nodes: ["b=127.0.0.1:65536"] }), /65536/);
  t.throws(() => lbConfig({ nodes: ["b=127.0.0.1:99999"] }), /99999/);
  t.same(lbConfig({ nodes: ["b=127.0.0.1:65535"] }).nodes, ["b=127.0.0.1:65535"]);
  // As another node may give it, in Redis.
  const bad = { id: "bad", host: "127.0.0.1", port: 99_999, state: "up", load: 0, weight: 1 } as const;
  const failed: string[] = [];
  const [server, peer, client] = await pair(t);
  const link = createLink(client, { firstBytes: () => true, connected() {}, dialFailed: (_, code) => void failed.push(code), closed() {}, bytes: { toNodes: 0, toClients: 0 } }, "waiting", 0, false);
  dial(link, { listed: bad } as BalancedNode, 0);
  await until(() => failed.length > 0, "the dial to fail");
  t.match(failed, [/ERR_SOCKET_BAD_PORT/]);
  const balanced = new Nodes();
  balanced.update([bad], null, 8);
  const problems: string[] = [];
  const health = new Health({ nodes: balanced, everyMs: 600_000, answerMs: 60_000, changed: (_, problem) => void problems.push(problem) });
  for (let i = 0; i < 2; i++) {
    health.checkAll();
    await until(() => balanced.all().every(({ failedChecks }) => failedChecks > i), "the check");
  }
  t.match(problems, [/port/i]);
  health.stop();
  for (const socket of [peer, client]) socket.destroy();
  server.close();
});

t.test("a link of which one side takes nothing has a time, until it takes something again", async (t) => {
  const [server, peer, client] = await pair(t);
  peer.pause();
  const flood = createServer((socket) => {
    const more = () => {
      while (socket.write(Buffer.alloc(65_536)));
    };
    socket.on("error", () => {}).on("drain", more);
    more();
  }).listen(0, "127.0.0.1");
  await once(flood, "listening");
  let closed = 0;
  const link = createLink(client, { firstBytes: () => true, connected: (one) => join(one, null), dialFailed() {}, closed: () => void closed++, bytes: { toNodes: 0, toClients: 0 } }, "waiting", 0, false);
  dial(link, { listed: { id: "a", host: "127.0.0.1", port: (flood.address() as AddressInfo).port, state: "up", load: 0, weight: 1 } } as BalancedNode, 0);
  await until(() => client.timeout === 60_000, "the client to take nothing more");
  peer.resume();
  await until(() => client.timeout !== 60_000, "it to take something");
  peer.pause();
  await until(() => client.timeout === 60_000, "it to stop again");
  client.emit("timeout");
  await until(() => closed === 1, "the end of both");
  t.ok(link.client.destroyed && link.node?.destroyed);
  peer.destroy();
  flood.close();
  server.close();
});

/** A server, a client of it, and what it has accepted. */
async function pair(t: Pick<Test, "teardown">) {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1" }).on("error", () => {});
  const [accepted] = (await once(server, "connection")) as [Socket];
  t.teardown(() => (peer.destroy(), accepted.destroy()));
  return [server, peer, accepted] as const;
}
