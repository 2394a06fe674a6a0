/** Nodes and clients over IPv6: each transport once, with origins, the admin port, its command, and what is logged. */
import { once } from "node:events";
import { connect as connectTls } from "node:tls";
import t from "tap";
import { WebSocket } from "ws";
import { closes } from "../src/errors.ts";
import { folder, makePair } from "./support/certificates.ts";
import { command } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { connectTcp, openRawSocket, within } from "./support/rawsocket.ts";
import { rawTcp } from "./support/rawtcp.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { open, openOn } from "./support/session.ts";

const host = "::1";

t.test("a node on ::1 serves WebSocket, TCP and its admin port there, and writes its addresses so that they can be opened", async (t) => {
  const node = await startNodeProcess(["--host", host, "--admin-host", host, "--tcp-port", "0", "--reactors", "1", "--sockets-max", "1000"]);
  t.teardown(() => node.kill());
  t.equal(node.url, `ws://[::1]:${node.port}/ws`);
  t.match(node.lastWords.join("\n"), `"tcp":"tcp://[::1]:${node.tcpPort}"`);
  t.match(node.lastWords.join("\n"), `"health":"http://[::1]:${node.port}/health"`);
  const own = { host, headers: { Host: `[::1]:${node.port}`, Origin: `http://[::1]:${node.port}` } };
  const web = await open(node, own);
  const raw = await openOn(rawTcp(await connectTcp(node.tcpPort, host)));
  for (const session of [web, raw]) await session.join("chat:six");
  await web.publish("chat:six", '"hello"');
  await raw.waitFor(() => raw.publications.length === 1);
  for (const origin of ["http://[::1]:1", "http://[::2]:80", `http://[fd00::1]:${node.port}`]) {
    const page = await openRawSocket({ port: node.port, host, headers: { ...own.headers, Origin: origin } });
    t.match(await page.closed(), { code: closes.forbidden_origin.code }, origin);
  }
  t.equal((await fetch(`http://[::1]:${node.port}/ready`)).status, 200);
  const { nodes } = (await (await fetch(`${node.adminUrl}/nodes`)).json()) as { nodes: { url: string; ip: string }[] };
  t.match(nodes, [{ ip: host, url: node.url }]);
  const port = new URL(node.adminUrl).port;
  t.match(await command(["nodes", "--admin-host", host, "--admin-port", port]), { code: 0, err: "" });
  t.match(await command(["disconnect", String(web.ready?.user), "--admin-host", host, "--admin-port", port]), { code: 0, err: "" });
  t.match(await web.closed(), { code: closes.disconnected.code });
  t.same(node.complaints, []);
});

t.test("with a certificate for ::1 the same: wss by the SDK, and TCP", async (t) => {
  const { cert, key, ca } = makePair(folder(t), "six", { names: "IP:::1" });
  const node = await startNode(t, { host, adminHost: host, tcpPort: 0, reactors: 1, tlsCert: cert, tlsKey: key });
  t.equal(node.url, `wss://[::1]:${node.port}/ws`);
  class Trusting extends WebSocket {
    constructor(address: string, protocols?: string | string[]) {
      super(address, protocols, { ca });
    }
  }
  await isReady(startClient(t, node.url, { WebSocket: Trusting }));
  const stream = connectTls({ port: node.tcpPort!, host, ca });
  await within(once(stream, "secureConnect"), "a TLS handshake");
  t.ok(stream.authorized);
  t.ok((await openOn(rawTcp(stream))).ready);
});

t.test("a node on :: is reached by both families, and crowds of both are one", async (t) => {
  const node = await startNode(t, { host: "::", allowAnonymous: true, reactors: 1, tcpPort: 0, socketsMax: 3 });
  for (const address of [host, "127.0.0.1"]) t.ok((await open(node, { host: address })).ready, address);
  t.ok((await openOn(rawTcp(await connectTcp(node.tcpPort!, "127.0.0.1")))).ready);
  for (const address of [host, "127.0.0.1"]) await t.rejects(open(node, { host: address }), /answered 503/, address);
});
