/**
 * Clients that prove nothing, or say nothing: each gets its code and costs only itself. What is wrong with a token is
 * in auth.test.ts, sessions with good ones are in auth-sessions.test.ts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import t from "tap";
import type { Gateway } from "../dist/index.js";
import { beside } from "./support/beside.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { within } from "./support/rawsocket.ts";
import { open, type OpenOptions } from "./support/session.ts";
import { handmade, keyPair, secret, signed, token } from "./support/tokens.ts";

const seconds = () => Math.floor(Date.now() / 1000);
const claims = { sub: "admin", iat: seconds() };

async function ending(node: Gateway, hello: object, options: OpenOptions): Promise<unknown> {
  const session = await open(node, { ...options, hello: null });
  await session.send({ hello: { version: 1, ...hello } }, 1);
  return session.closed();
}

t.test("every bad token is closed with its code, however it comes, and nobody else notices", async (t) => {
  const pair = keyPair("RSA");
  const node = await startNode(t, { authSecret: secret, authAudience: ["chat"], allowAnonymous: true, host: "127.0.0.1" });
  const good = await token({ ...claims, aud: "chat" }, secret);
  const [head, body, signature] = good.split(".") as [string, string, string];
  const bad: [string, string, number][] = [
    ["expired", await token({ ...claims, aud: "chat", exp: seconds() - 5 }, secret), 3005],
    ["not yet valid", await token({ ...claims, aud: "chat", nbf: seconds() + 60 }, secret), 3500],
    ["for another audience", await token({ ...claims, aud: "game" }, secret), 3500],
    ["unsigned", handmade({ alg: "none" }, claims), 3500],
    ["with its signature cut off", `${head}.${body}.`, 3500],
    ["with other claims", `${head}.${Buffer.from(JSON.stringify({ sub: "admin", aud: "chat" })).toString("base64url")}.${signature}`, 3500],
    ["signed with a key nobody knows", await signed({ ...claims, aud: "chat" }, pair.private, { alg: "RS256" }), 3500],
    ["no JSON", handmade("{", "}", signature), 3500],
    ["no base64", "!.!.!", 3500],
    ["without a user", await token({ aud: "chat" }, secret), 3500],
    ["of a user whose name is two", await token({ ...claims, aud: "chat", sub: "a\u001fb" }, secret), 3500],
  ];
  await beside(t, node, async () => {
    for (const [title, one, code] of bad) {
      for (const json of [false, true]) {
        t.match(await ending(node, { token: one }, { json }), { code }, `${title}, in hello`);
        t.match(await ending(node, {}, { json, headers: { Authorization: `Bearer ${one}` } }), { code }, `${title}, in the header`);
        t.match(await ending(node, {}, { json, path: `/ws?token=${encodeURIComponent(one)}` }), { code }, `${title}, in the query`);
      }
    }
    const big = await token({ ...claims, aud: "chat", padding: "x".repeat(20_000) }, secret);
    t.match(await ending(node, { token: big }, {}), { code: 3500 }, "oversized, in hello");
    await t.rejects(open(node, { headers: { Authorization: `Bearer ${big}` } }), "oversized, in the header: no upgrade at all");
  });
});

t.test("a flood of one bad token costs next to no signatures", async (t) => {
  const node = await startNode(t, { authSecret: secret, reactors: 1 });
  const bad = await token(claims, "a secret that nobody has given it");
  const from = performance.now();
  for (let i = 0; i < 200; i++) t.match(await ending(node, { token: bad }, {}), { code: 3500 });
  const verified = sumOf(await node.metrics(), "flux_tokens_verified_total");
  t.ok(verified <= 2 + (performance.now() - from) / 1000, `${verified} looks`);
});

t.test("forged resume tokens resume nothing where tokens are needed, and are told so", async (t) => {
  const node = await startNode(t, { authSecret: secret });
  const victim = await open(node, { hello: { token: await token({ sub: "ann" }, secret) } });
  const { session, resumeToken } = victim.ready!;
  const [body = "", signature = ""] = resumeToken!.split(".");
  const changed = Buffer.from(body, "base64url").toString().replace('"ann"', '"bob"');
  const forged = [`${Buffer.from(changed).toString("base64url")}.${signature}`, `${body}.`, `${body}.${"A".repeat(43)}`, body, "", ".", "x".repeat(70_000).slice(0, 60_000)];
  for (const one of forged) t.match(await ending(node, { resume: { session, token: one } }, {}), { code: 3500 }, one.slice(0, 20));
  t.match(await ending(node, { resume: { session: "another", token: resumeToken } }, {}), { code: 3500 }, "good, for another session");
  t.match(await ending(node, { token: victim.ready!.resumeToken }, {}), { code: 3500 }, "and is no token");
  t.match(await ending(node, { token: victim.ready!.ticket }, {}), { code: 3500 }, "nor is a ticket");
  t.match(await ending(node, { resume: { session, token: victim.ready!.ticket } }, {}), { code: 3500 }, "which resumes nothing");
  t.ok((await victim.request({ ping: {} })).pong);
});

t.test("ten thousand handshakes that never say hello are closed with 3000, take little, and keep nobody out", async (t) => {
  const count = 10_000;
  const node = await startNodeProcess(["--handshake-timeout-ms", "5s", "--auth-secret", secret]);
  t.teardown(() => node.stop());
  const beside = await open(node, { hello: { token: await token({ sub: "ann" }, secret) } });
  const before = node.rssBytes();
  const padding = await token({ sub: "x", padding: "x".repeat(500) }, secret);
  const silent: { code: Promise<number> }[] = [];
  // More at once would wait for the kernel, which answers a full queue of connections only after a second or more.
  while (silent.length < count) silent.push(...(await Promise.all(Array.from({ length: 500 }, () => knock(node.port, padding)))));
  const grown = (node.rssBytes() - before) / count;
  t.ok(grown < 30_000, `${Math.round(grown)} bytes each`);
  t.ok((await beside.request({ ping: {} })).pong, "who is in is served");
  t.ok((await open(node, { hello: { token: await token({ sub: "bob" }, secret) } })).ready, "and others come in");
  const codes = await within(Promise.all(silent.map(({ code }) => code)), "all of them to be closed", 180_000);
  t.equal(codes.filter((code) => code === 3000).length, count);
  t.ok((await beside.request({ ping: {} })).pong);
  t.equal(node.ended, undefined);
});

/** Upgrades, and says no more; its close code comes later. A node that has no core for 10 s resets the request: then again. */
async function knock(port: number, token: string): Promise<{ code: Promise<number> }> {
  for (;;) {
    const knocked = await knockOnce(port, token).catch((error: unknown) => {
      if ((error as { readonly code?: unknown }).code !== "ECONNRESET") throw error;
    });
    if (knocked) return knocked;
  }
}

async function knockOnce(port: number, token: string): Promise<{ code: Promise<number> }> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.write(
    `GET /ws?token=${token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  const [first] = (await within(once(socket, "data"), "an upgrade", 180_000)) as [Buffer];
  if (!first.includes("101 Switching")) throw new Error(first.toString().split("\r\n")[0]);
  return { code: closeCode(socket, first.subarray(first.indexOf("\r\n\r\n") + 4)) };
}

function closeCode(socket: Socket, rest: Buffer): Promise<number> {
  let seen = rest;
  socket.on("data", (more: Buffer) => (seen = Buffer.concat([seen, more])));
  return new Promise((resolve) => {
    socket.on("error", () => resolve(0));
    socket.on("close", () => resolve(seen.length >= 4 && seen[0] === 0x88 ? seen.readUInt16BE(2) : 0));
    socket.on("end", () => socket.end());
  });
}

t.test("neither secrets nor tokens get into the log, at any level", async (t) => {
  const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
  const before = "the secret before, of 32 or more!";
  for (const format of ["json", "pretty"]) {
    const args = [main, "start", "--port", "0", "--admin-port", "0", "--no-demo", "--log-level", "trace", "--log-format", format];
    const env = { PATH: process.env.PATH ?? "", FLUX_AUTH_SECRET: secret, FLUX_AUTH_SECRET_PREVIOUS: before, FLUX_RESUME_SECRET: "a secret for resume tokens, of 32" };
    const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    t.teardown(() => child.kill("SIGKILL"));
    let log = "";
    const port = new Promise<number>((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (text: Buffer) => {
          log += text.toString();
          const [, found] = /ws:\/\/localhost:(\d+)\/ws/.exec(log) ?? [];
          if (found !== undefined) resolve(Number(found));
        });
      }
    });
    const node = { port: await within(port, "the node to start") } as Gateway;
    const mine = await token({ sub: "ann" }, secret);
    const bad = await token({ sub: "ann" }, "a secret that nobody has given it");
    const session = await open(node, { path: `/ws?token=${mine}` });
    await session.request({ refresh: { token: bad } });
    await ending(node, { token: bad }, {});
    await ending(node, {}, { headers: { Authorization: `Bearer ${bad}` } });
    await session.bye();
    child.kill("SIGTERM");
    await within(once(child, "exit"), "the node to end");
    t.match(log, /with a token \(two secrets\)/, "it has said how it is guarded");
    for (const hidden of [secret, before, "resume tokens", mine, bad, mine.split(".")[2]!, session.ready!.resumeToken!, session.ready!.ticket!]) {
      t.notOk(log.includes(hidden), hidden.slice(0, 20));
    }
  }
});
