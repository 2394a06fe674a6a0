/**
 * Cost and savings of permessage-deflate: `node --import tsx bench/compression.ts [sockets] [members]`. Measures the
 * memory of idle sockets with compression, then CPU and bytes on the wire for publications to one room.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { startNodeProcess } from "../test/support/nodeprocess.ts";
import { encodeBinary, encodeText } from "../test/support/wire.ts";

const [idle = 1000, members = 100] = process.argv.slice(2).map(Number);
const publications = 500;
const tickMs = 10; // of the kernel's clock in /proc
const words = "the quick brown fox jumps over a lazy dog while user-{n} writes message-{n} to the room".split(" ");
const payload = (n: number) => JSON.stringify({
  id: `01J9${n}`, type: "message", user: { id: `u-${n * 7919}`, name: `User ${n}` }, tags: ["news", "general"],
  text: Array.from({ length: 60 }, (_, i) => words[(i * n * 31 + i * i) % words.length]!.replace("{n}", String(n))).join(" "),
});

const cpuMs = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
};

async function open(port: number, json: boolean, deflate: boolean): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, json ? "flux.v1.json" : "flux.v1.proto", { perMessageDeflate: deflate });
  await once(socket, "open");
  const send = (frame: Parameters<typeof encodeText>[0]) => socket.send(json ? encodeText(frame) : encodeBinary(frame));
  send({ id: 1, hello: { version: 1 } });
  await once(socket, "message");
  send({ id: 2, join: { room: "live:bench" } });
  await once(socket, "message");
  return socket;
}

/** For the binary format: consecutive publications share a message. */
function framesIn(message: Buffer): number {
  let frames = 0;
  for (let at = 0; at < message.length; at += 4 + message.readUInt32BE(at)) frames++;
  return frames;
}

for (const json of [true, false]) {
  for (const compression of ["off", "shared"] as const) {
    const node = await startNodeProcess(["--reactors", "1", "--commands-per-second", "0", "--compression", compression]);
    const publisher = await open(node.port, json, false);
    const sockets: WebSocket[] = [];
    await sleep(1500);
    const before = node.rssBytes();
    for (let i = 0; i < idle; i++) sockets.push(await open(node.port, json, compression !== "off"));
    await sleep(1500);
    const perSocket = Math.round((node.rssBytes() - before) / idle);
    for (const socket of sockets.splice(members)) socket.terminate();
    await sleep(1000);
    let got = 0;
    for (const socket of sockets) socket.on("message", (message: Buffer) => (got += json ? 1 : framesIn(message)));
    const bytesRead = () => sockets.reduce((sum, socket) => sum + (socket as unknown as { _socket: { bytesRead: number } })._socket.bytesRead, 0);
    const [bytesBefore, cpuBefore] = [bytesRead(), cpuMs(node.pid)];
    for (let n = 0; n < publications; n++) {
      const frame = { id: 0, publish: { room: "live:bench", payload: Buffer.from(payload(n)), format: 1 } };
      publisher.send(json ? encodeText(frame) : encodeBinary(frame));
      await sleep(4);
    }
    while (got < publications * members) await sleep(20);
    const deliveries = publications * members;
    const [bytes, cpu] = [(bytesRead() - bytesBefore) / deliveries, ((cpuMs(node.pid) - cpuBefore) * 1000) / deliveries];
    process.stdout.write(`${json ? "JSON" : "protobuf"} ${compression}: ${perSocket} bytes RSS/socket, ${cpu.toFixed(1)} µs CPU/delivery, ${bytes.toFixed(0)} bytes/delivery\n`);
    for (const socket of [...sockets, publisher]) socket.terminate();
    await node.stop();
  }
}
