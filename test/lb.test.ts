/** The load balancer: where it forwards to, what it forwards, and what it does when a node is not there. In this process, in front of servers that say who they are. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { connect, createServer, type AddressInfo } from "node:net";
import t from "tap";
import { PlaceTickets, placeTag, userTag } from "../src/auth/placetickets.ts";
import { ownersOf } from "../src/placement/ring.ts";
import { freePort } from "../src/node/ports.ts";
import { canSharePorts } from "../src/platform/machine.ts";
import { xxh32 } from "../src/placement/hash.ts";
import { roomKey } from "../src/protocol/roomkeys.ts";
import { lbConfig, openRaw, startBalancer, startFakeNode, upgradeTo, whoAnswers } from "./support/balancer.ts";
import { makePair, folder } from "./support/certificates.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const [a, b, c] = [await startFakeNode(t, "a"), await startFakeNode(t, "b"), await startFakeNode(t, "c")];
const all = [a, b, c];
const nodes = all.map(({ listed }) => listed);
const owners = ownersOf(all.map(({ id }) => ({ id, weight: 1 })), 1024);
const ownerOf = (tenant: string, user: string): string => all[owners[xxh32(roomKey(tenant, user)) % 1024]!]!.id;
/** A user of each node. */
const userOf = (id: string): string => Array.from({ length: 100 }, (_, i) => `user-${i}`).find((user) => ownerOf("", user) === id)!;
// Checks wait so long that a busy machine takes no node out.
const hash = await startBalancer(t, { nodes, policy: "hash", dialMs: 60_000, readyCheckMs: 250 });

t.test("hash forwards a user to the owner of the partition, however the first request names the user", async (t) => {
  const tickets = new PlaceTickets("a secret of the nodes, long enough");
  for (const { id } of all) {
    const user = userOf(id);
    t.equal(await whoAnswers(hash.port, `/who?user=${user}`), id);
    t.equal(await whoAnswers(hash.port, `/who?token=${await token({ sub: user }, secret)}`), id);
    t.equal(await whoAnswers(hash.port, "/who", `Accept: */*\r\nauthorization:  Bearer ${await token({ sub: user }, secret)}\r\n`), id);
    t.equal(await whoAnswers(hash.port, `/who?ticket=${tickets.make(placeTag(id), userTag("", "anyone"), 0, 0, false)}`), id, "a ticket names its node");
    t.equal(await whoAnswers(hash.port, `/who?ticket=${tickets.make(placeTag("gone"), userTag("", user), 0, 0, false)}`), id, "or its user");
    t.equal(await whoAnswers(hash.port, `/who?user=${userOf("a")}&node=${id}`), id, "node= comes first");
  }
  for (const user of ["Zoë", "日本語", "a b", "50% off", "1+1", "x&y=z", "<>\"'"]) {
    t.equal(await whoAnswers(hash.port, `/who?user=${encodeURIComponent(user)}`), ownerOf("", user), user);
    t.equal(await whoAnswers(hash.port, `/who?tenant=acme&user=${encodeURIComponent(user).replaceAll("%20", "+")}`), ownerOf("acme", user), `${user} of a tenant`);
  }
});

t.test("clients that name nobody go by their address, all to one node", async (t) => {
  const answers = new Set([await whoAnswers(hash.port, "/who"), await whoAnswers(hash.port, "/who?node=unknown"), await whoAnswers(hash.port, "/who?token=x.e30.y&ticket=short&user=")]);
  t.equal(answers.size, 1);
  const expected = all[owners[xxh32("127.0.0.1") % 1024]!]!.id;
  t.same([...answers], [expected]);
});

t.test("the first request may come byte by byte, and nobody is dialled before it names its user", async (t) => {
  const user = userOf("b");
  const { socket, text, closed } = await openRaw(hash.port);
  const before = b.sockets.size;
  const request = `GET /who?user=${user} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
  for (const byte of request.slice(0, 12)) {
    socket.write(byte);
    await new Promise(setImmediate);
  }
  t.equal(hash.usage().counts.dialling, 0);
  t.ok(b.sockets.size <= before + 1, "but for checks");
  socket.write(request.slice(12));
  await closed;
  socket.destroy();
  t.match(text(), /X-Node: b/);
});

t.test("bytes arrive as they were sent, in both directions, faster than they are read", async (t) => {
  const { socket, text } = await openRaw(hash.port, upgradeTo(`/echo?user=${userOf("c")}`));
  await until(() => text().includes("\r\n\r\n"), "the upgrade");
  const sent = createHash("sha256");
  const got = createHash("sha256");
  const size = 8 * 2 ** 20;
  let received = 0;
  socket.removeAllListeners("data");
  socket.on("data", (chunk: Buffer) => {
    got.update(chunk);
    received += chunk.length;
  });
  socket.pause();
  for (let i = 0; i < size / 65_536; i++) {
    const chunk = Buffer.alloc(65_536, i % 251);
    sent.update(chunk);
    socket.write(chunk);
  }
  const mine = hash.usage().bytes.toClients;
  await until(() => socket.writableLength > 0 && socket.writableNeedDrain, "the way to fill up");
  t.ok(hash.usage().bytes.toClients - mine < size, "what the client does not read is not read from the node");
  socket.resume();
  await until(() => received === size, "all to come back");
  t.equal(got.digest("hex"), sent.digest("hex"));

  socket.end();
  await once(socket, "end");
  await until(() => hash.usage().counts.joined === 0, "the balancer to forget it");
});

t.test("a half that has ended leaves the other open", async (t) => {
  const late = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.resume().on("end", () => socket.end("said after the end"));
  }).listen(0, "127.0.0.1");
  await once(late, "listening");
  t.teardown(() => late.close());
  const balancer = await startBalancer(t, { nodes: [`late=127.0.0.1:${(late.address() as AddressInfo).port}`], policy: "round-robin" });
  const { socket, text, closed } = await openRaw(balancer.port, "anything");
  socket.end();
  await closed;
  t.equal(text(), "said after the end");
});

t.test("round-robin takes turns, least-connections counts, least-load prefers the less busy of two", async (t) => {
  const robin = await startBalancer(t, { nodes, policy: "round-robin" });
  const answers: string[] = [];
  for (let i = 0; i < 6; i++) answers.push(await whoAnswers(robin.port, "/who"));
  t.same([...answers].sort(), ["a", "a", "b", "b", "c", "c"]);

  const least = await startBalancer(t, { nodes, policy: "least-connections" });
  const held = [];
  for (let i = 0; i < 9; i++) {
    held.push(await openRaw(least.port, upgradeTo("/echo")));
    await until(() => least.usage().counts.joined === i + 1, "the connection");
  }
  t.same(least.usage().nodes.map(({ open }) => open), [3, 3, 3]);
  for (const { socket } of held.slice(0, 3)) socket.destroy();
});

t.test("a node that refuses is passed over at once, and gets clients again when it is back", async (t) => {
  const user = userOf("a");
  await a.stop();
  const answers = new Set<string>();
  for (let i = 0; i < 3; i++) answers.add(await whoAnswers(hash.port, `/who?user=${user}&node=a`));
  t.equal(answers.size, 1, "to one other node");
  t.match([...answers][0], /^[bc]$/);
  t.match(hash.usage().nodes.find(({ id }) => id === "a"), { usable: false, open: 0 });
  await a.start();
  await until(() => hash.usage().nodes.every(({ usable }) => usable), "the check");
  t.equal(await whoAnswers(hash.port, `/who?user=${user}`), "a");
});

t.test("a node that accepts and says nothing, or is not ready, gets no more clients", async (t) => {
  b.silent = true;
  await until(() => !hash.usage().nodes.find(({ id }) => id === "b")!.usable, "the checks");
  t.not(await whoAnswers(hash.port, `/who?user=${userOf("b")}`), "b");
  b.silent = false;
  b.status = 503;
  await until(() => !hash.usage().nodes.find(({ id }) => id === "b")!.usable, "it to stay out");
  t.not(await whoAnswers(hash.port, `/who?user=${userOf("b")}`), "b");
  b.status = 200;
  await until(() => hash.usage().nodes.every(({ usable }) => usable), "it to be back");
});

t.test("without any node a request is answered 503, with the time to come again", async (t) => {
  const gone = await startFakeNode(t, "gone");
  const balancer = await startBalancer(t, { nodes: [gone.listed] });
  await gone.stop();
  const { text, closed } = await openRaw(balancer.port, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n");
  await closed;
  t.match(text(), /^HTTP\/1\.1 503 [^]*Retry-After: 1\r\n[^]*"unavailable"/);
  const raw = await openRaw(balancer.port, Buffer.from([0x16, 3, 1]));
  await raw.closed;
  t.equal(raw.text(), "");
  t.match(balancer.usage().counts.refused, { "no-node": 2 });
});

t.test("TLS ends here, and nodes get the client's address in a PROXY header", async (t) => {
  const pair = makePair(folder(t), "lb");
  const heard: Buffer[] = [];
  const target = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      heard.push(chunk);
      if (Buffer.concat(heard).includes("\r\n\r\n")) socket.end("HTTP/1.1 200 OK\r\nX-Node: plain\r\nContent-Length: 0\r\n\r\n");
    });
  }).listen(0, "127.0.0.1");
  await once(target, "listening");
  t.teardown(() => target.close());
  const balancer = await startBalancer(t, { nodes: [`plain=127.0.0.1:${(target.address() as AddressInfo).port}`], tlsCert: pair.cert, tlsKey: pair.key, sendProxy: true, readyCheckMs: 600_000 });
  await until(() => heard.length > 0, "the check");
  heard.length = 0;
  const client = connectTls({ port: balancer.port, host: "127.0.0.1", ca: pair.ca, servername: "localhost" });
  let said = "";
  client.on("data", (chunk: Buffer) => (said += chunk.toString()));
  client.write("GET /who?user=x HTTP/1.1\r\nHost: x\r\n\r\n");
  await once(client, "end");
  client.destroy();
  t.match(said, /X-Node: plain/);
  const bytes = Buffer.concat(heard);
  // 12 bytes of signature, version 2, TCP over IPv4, 12 bytes of addresses
  t.equal(bytes.subarray(0, 16).toString("hex"), "0d0a0d0a000d0a515549540a2111000c");
  t.equal(bytes.subarray(16, 24).toString("hex"), "7f0000017f000001");
  t.equal(bytes.readUInt16BE(26), balancer.port);
  t.equal(bytes.subarray(28, 32).toString(), "GET ");
});

t.test("a client on TLS that is turned away is closed: that used to end the load balancer", async (t) => {
  const pair = makePair(folder(t), "lb");
  const tls = { tlsCert: pair.cert, tlsKey: pair.key, policy: "round-robin" } as const;
  const come = (port: number) => {
    const client = connectTls({ port, host: "127.0.0.1", ca: pair.ca, servername: "localhost" });
    client.on("error", () => undefined);
    return client.resume();
  };
  const nowhere = await startBalancer(t, { nodes: ["gone=127.0.0.1:1"], ...tls });
  for (const count of [1, 2]) {
    await once(come(nowhere.port), "close");
    t.equal(nowhere.usage().counts.refused["no-node"], count);
  }
  const full = await startBalancer(t, { nodes: [nodes[0]!], connectionsMax: 1, ...tls });
  const first = come(full.port);
  await until(() => full.usage().counts.joined === 1, "the first");
  await once(come(full.port), "close");
  t.equal(full.usage().counts.refused.full, 1);
  t.equal(full.usage().counts.joined, 1, "the first goes on");
  first.destroy();
});

t.test("TLS passes through to nodes that serve it, and their certificate is what clients verify", async (t) => {
  const pair = makePair(folder(t), "node");
  const target = createTlsServer({ cert: readFileSync(pair.cert), key: readFileSync(pair.key) }, (socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => socket.write(`heard ${chunk.toString()}`));
  }).listen(0, "127.0.0.1");
  await once(target, "listening");
  t.teardown(() => target.close());
  for (const policy of ["hash", "round-robin"] as const) {
    const balancer = await startBalancer(t, { nodes: [`secure=127.0.0.1:${(target.address() as AddressInfo).port}`], policy, readyCheckMs: 600_000 });
    const client = connectTls({ port: balancer.port, host: "127.0.0.1", ca: pair.ca, servername: "localhost" });
    await once(client, "secureConnect");
    client.write("hello");
    const [said] = (await once(client, "data")) as [Buffer];
    t.equal(said.toString(), "heard hello");
    t.equal(client.authorized, true);
    client.destroy();
  }
});

t.test("load balancers agree without talking, whatever they have seen before", async (t) => {
  const other = await startBalancer(t, { nodes: [...nodes].reverse(), policy: "hash", dialMs: 60_000, readyCheckMs: 600_000 });
  for (let i = 0; i < 12; i++) {
    const [one, two] = await Promise.all([hash, other].map(({ port }) => whoAnswers(port, `/who?tenant=t&user=someone-${i}`)));
    t.equal(one, two);
  }
});

t.test("a reload changes policy and limits, and disconnects nobody", async (t) => {
  const balancer = await startBalancer(t, { nodes: nodes.slice(0, 1), policy: "round-robin" });
  const { socket, text } = await openRaw(balancer.port, upgradeTo("/echo"));
  await until(() => text().includes("\r\n\r\n"), "the upgrade");
  balancer.reload(lbConfig({ nodes, policy: "hash", connectionsMax: 7, port: 1 }));
  t.equal(balancer.config.policy, "hash");
  t.equal(balancer.config.port, 0, "a port stays as it is");
  for (const { id } of all) t.equal(await whoAnswers(balancer.port, `/who?user=${userOf(id)}`), id);
  socket.write("still here");
  await until(() => text().endsWith("still here"), "the echo");

  const drained = balancer.drain();
  t.equal((await fetch(`http://127.0.0.1:${balancer.adminPort}/ready`)).status, 503);
  await once(connect(balancer.port, "127.0.0.1"), "error");
  socket.write(", and now");
  await until(() => text().endsWith("and now"), "the echo while it drains");
  socket.destroy();
  await drained;
});

t.test("several load balancers share a port, where Node can do that; else the option is refused by name", async (t) => {
  const options = { nodes, policy: "hash", sharePort: true, port: await freePort() } as const;
  if (!canSharePorts()) return t.rejects(startBalancer(t, options), /--share-port: needs Node 22\.12/);
  const two = [await startBalancer(t, options), await startBalancer(t, options)];
  for (let i = 0; i < 8; i++) t.equal(await whoAnswers(options.port, `/who?user=${userOf("b")}`), "b");
  t.equal(two[0]!.usage().counts.accepted + two[1]!.usage().counts.accepted, 8);
});

t.test("the admin port says where everybody is, and answers /ready", async (t) => {
  const admin = `http://127.0.0.1:${hash.adminPort}`;
  t.match(await (await fetch(`${admin}/nodes`)).json(), { policy: "hash", partitions: 1024, nodes: [{ id: "a", usable: true }, { id: "b" }, { id: "c" }] });
  t.equal((await fetch(`${admin}/ready`)).status, 200);
  const metrics = await (await fetch(`${admin}/metrics`)).text();
  t.match(metrics, /^flux_lb_node_usable\{node="a"\} 1$/m);
  t.match(metrics, /^flux_lb_accepted_total [1-9]/m);
  t.equal((await fetch(`${admin}/drain`)).status, 404, "what only nodes have");
});

t.test("options that contradict each other are refused by name", async (t) => {
  t.throws(() => lbConfig({}), /nodes .*no node is known; set .*redis/);
  t.throws(() => lbConfig({ nodes: ["a=1.2.3.4:5"], redis: "redis://x" }), /nodes: Redis names the nodes/);
  t.throws(() => lbConfig({ nodes: ["a=1.2.3.4:5", "a=1.2.3.4:6"] }), /name a twice/);
  t.throws(() => lbConfig({ nodes: ["a=1.2.3.4:5"], sendProxy: true }), /sendProxy: .*tlsCert/);
  t.throws(() => lbConfig({ nodes: ["a"] }), /names and addresses/);
  t.equal(lbConfig({ nodes: ["a=1.2.3.4:5"], host: "0.0.0.0" }).host, "0.0.0.0", "the nodes check tokens");
});
