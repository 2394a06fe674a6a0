/** permessage-deflate: messages of some size are compressed for who asks; a small message that inflates to a huge one ends its socket. */
import { deflateRawSync, inflateRawSync } from "node:zlib";
import t from "tap";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { opcodes, openRawSocket, type RawSocket } from "./support/rawsocket.ts";
import { openTcp } from "./support/rawtcp.ts";
import { open } from "./support/session.ts";
import { encodeText } from "./support/wire.ts";

const asking = { "Sec-WebSocket-Extensions": "permessage-deflate; client_no_context_takeover; server_no_context_takeover" };
const rsv1 = 4;
const tail = Buffer.from("0000ffff", "hex");

/** As a message that has been deflated goes over the wire: without the empty block at its end. */
function deflated(bytes: Uint8Array): Buffer {
  return deflateRawSync(bytes, { finishFlush: 2, level: 9 }).subarray(0, -4);
}

async function openAsking(node: { port: number }, subprotocol = "flux.v1.json"): Promise<RawSocket> {
  const raw = await openRawSocket({ port: node.port, subprotocol, headers: asking });
  await raw.send({ opcode: opcodes.text, payload: encodeText({ id: 1, hello: { version: 1 } }) });
  await raw.nextFrame();
  return raw;
}

/** The next text message, and whether it came compressed. */
async function nextText(raw: RawSocket): Promise<{ text: string; compressed: boolean; bytes: number }> {
  const { payload, rsv } = await raw.nextFrame();
  const compressed = rsv === rsv1;
  const text = (compressed ? inflateRawSync(Buffer.concat([payload, tail]), { finishFlush: 2 }) : payload).toString();
  return { text, compressed, bytes: payload.length };
}

for (const compression of ["shared"] as const) {
  t.test(`${compression}: long messages are compressed for who asks, short ones for nobody, and all members read the same`, async (t) => {
    const node = await startNode(t, { compression, compressionBytesMin: 200, tcpPort: 0 });
    const raw = await openAsking(node);
    t.match(raw.headers.get("sec-websocket-extensions"), /permessage-deflate/);
    const plain = await open(node, { json: true });
    const overTcp = await openTcp(node);
    const arrays = await open(node, { json: "arrays" });
    t.equal(plain.raw.headers.get("sec-websocket-extensions"), undefined);
    for (const member of [plain, overTcp, arrays]) await member.join("chat:a");
    await raw.send({ opcode: opcodes.text, payload: encodeText({ id: 2, join: { room: "chat:a" } }) });
    t.match(await nextText(raw), { text: /"joined"/, compressed: false });

    const words = ["short", "long ".repeat(1000), "again ".repeat(1000)];
    for (const word of words) await overTcp.publish("chat:a", JSON.stringify(word));
    for (const [i, word] of words.entries()) {
      const seen = await nextText(raw);
      t.equal((JSON.parse(seen.text) as { publication: { data: string } }).publication.data, word);
      t.equal(seen.compressed, i > 0);
      if (i > 0) t.ok(seen.bytes < 500, `${seen.bytes} bytes of ${seen.text.length}`);
    }
    for (const member of [plain, arrays]) {
      await member.waitFor(() => member.publications.length === 3);
      t.same(member.publications.map(({ payload }) => JSON.parse(payload.toString()) as string), words);
    }

    // And from the client: a command that is compressed is read as any other.
    const echo = Buffer.from(encodeText({ id: 3, echo: { payload: Buffer.from(JSON.stringify("e".repeat(5000))), format: 1 } }));
    await raw.send({ opcode: opcodes.text, payload: deflated(echo), rsv: rsv1 });
    t.match(await nextText(raw), { text: /"e{5000}"/, compressed: true });
    raw.destroy();
  });
}

t.test("shared: publications that leave in one array are compressed together, and so are pages", async (t) => {
  const node = await startNode(t, { compression: "shared", compressionBytesMin: 400, namespaces: { chat: { durable: true, flushMs: 10_000 } } });
  const raw = await openAsking(node, "flux.v1.json-arrays");
  const writer = await open(node);
  await writer.join("chat:a");
  await raw.send({ opcode: opcodes.text, payload: encodeText({ id: 2, join: { room: "chat:a" } }) });
  t.match(await nextText(raw), { text: /^\[\{"id":2,"joined"/, compressed: false });
  for (let n = 1; n <= 5; n++) await writer.publish("chat:a", "1");
  await raw.send({ opcode: opcodes.text, payload: encodeText({ id: 3, leave: { room: "chat:a" } }) });
  const { text, compressed, bytes } = await nextText(raw);
  t.ok(compressed, `one of them has ${text.length / 5} bytes`);
  t.ok(bytes < text.length / 2);
  t.strictSame((JSON.parse(text) as { publication: { seq: string } }[]).map(({ publication }) => publication.seq), ["1", "2", "3", "4", "5"]);
  t.match(await nextText(raw), { text: /^\[\{"id":3,"left"/, compressed: false });
  await raw.send({ opcode: opcodes.text, payload: encodeText({ id: 4, join: { room: "chat:a", history: 5 } }) });
  t.match(await nextText(raw), { text: /^\[\{"id":4,"joined".*\}\]$/, compressed: true });
  raw.destroy();
});

t.test("by default nothing is compressed, and who sends it compressed all the same is dropped", async (t) => {
  const node = await startNode(t);
  const raw = await openAsking(node);
  t.equal(raw.headers.get("sec-websocket-extensions"), undefined);
  await raw.send({ opcode: opcodes.text, payload: deflated(Buffer.from("{}")), rsv: rsv1 });
  await raw.closed();
});

t.test("a message that inflates to more than it may ends its socket, costs no memory, and harms nobody else", async (t) => {
  const node = await startNodeProcess(["--compression", "shared", "--reactors", "1"]);
  t.teardown(() => node.stop());
  const beside = await open(node);
  const huge = Buffer.alloc(128 * 1024 * 1024);
  const bomb = deflated(huge);
  t.ok(bomb.length < 200_000, `${bomb.length} bytes`);
  const before = node.rssBytes();
  let most = before;
  for (let i = 0; i < 20; i++) {
    const raw = await openAsking(node);
    await raw.send({ opcode: opcodes.text, payload: bomb, rsv: rsv1 });
    const ending = await raw.closed();
    if (i === 0) t.comment(`it ends ${JSON.stringify(ending)}`);
    most = Math.max(most, node.rssBytes());
  }
  t.equal(await node.metric("flux_unreadable_total"), 20, "they are counted: to one that is dropped no code can be sent");
  t.ok(most - before < 64 * 1024 * 1024, `resident memory went from ${before} to ${most}`);
  t.ok((await beside.request({ ping: {} })).pong);
  t.equal(node.ended, undefined);
  // Bytes that are no deflate at all.
  const raw = await openAsking(node);
  await raw.send({ opcode: opcodes.text, payload: Buffer.from("ffffffffffff", "hex"), rsv: rsv1 });
  await raw.closed();
  t.ok((await beside.request({ ping: {} })).pong);
});

t.test("a message that is too long, and text that is not UTF-8, are counted; a socket that just goes is not", async (t) => {
  const node = await startNodeProcess(["--reactors", "1"]);
  t.teardown(() => node.stop());
  const unreadable = () => node.metric("flux_unreadable_total");
  const gone = await openAsking(node);
  gone.destroy();
  const messages = [Buffer.alloc(1024 * 1024, 0x20), Buffer.from("7b22ff227d", "hex")];
  for (const [i, payload] of messages.entries()) {
    const raw = await openAsking(node);
    await raw.send({ opcode: opcodes.text, payload });
    await raw.closed();
    t.equal(await unreadable(), i + 1);
  }
});
