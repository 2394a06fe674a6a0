import t, { type Test } from "tap";
import { chmodSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Ear } from "../bench/load/conversation.ts";
import { NatsConversation } from "../bench/load/nats.ts";
import { textPayload } from "../bench/load/payload.ts";
import { Squad } from "../bench/load/squad.ts";
import { opcodes } from "../bench/load/websocket.ts";
import { absence, type PeerName, startPeer, versionOf } from "../bench/servers/peers.ts";
import { root } from "./support/root.ts";
import { until } from "./support/until.ts";

/** A folder on PATH with a stand-in for Centrifugo. */
function withCentrifugo(t: Test): void {
  const folder = t.testdir();
  const program = join(folder, "centrifugo");
  writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${join(root, "test/support/centrifugo.mjs")}" "$@"\n`);
  chmodSync(program, 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${folder}${delimiter}${PATH}`;
  t.teardown(() => (process.env.PATH = PATH));
}

/** Three members, two of which publish in turn. */
async function fanOut(t: Test, name: PeerName): Promise<void> {
  const peer = await startPeer(name);
  t.teardown(() => peer.stop());
  const counters: number[][] = [[], [], []];
  const failures: string[] = [];
  const squad = new Squad({ chunk: () => {}, delivered: (socket, counter) => void counters[socket]!.push(counter) }, ({ message }) => void failures.push(message));
  t.teardown(() => squad.close());
  await squad.connect({ dialect: peer.dialect, format: "json", host: peer.host, port: peer.port }, "member", 3);
  const [first, second] = squad.conversations;
  for (let n = 1; n <= 6; n++) (n % 2 === 1 ? first : second)!.publish(n, n);
  await until(() => failures.length > 0 || counters.every(({ length }) => length === 6), `${name} to deliver six messages to three members`);
  t.same(failures, []);
  for (const heard of counters) {
    t.same(heard.filter((n) => n % 2 === 1), [1, 3, 5], "what the first published, in order");
    t.same(heard.filter((n) => n % 2 === 0), [2, 4, 6], "and the second");
  }
}

/** Looked up before a test changes the PATH. */
const absent = { nats: absence("nats") ?? false, nchan: absence("nchan") ?? false };

t.test("a peer that is not installed is named with the reason", async (t) => {
  const { PATH } = process.env;
  process.env.PATH = t.testdir();
  t.teardown(() => (process.env.PATH = PATH));
  t.equal(absence("centrifugo"), "no centrifugo on PATH");
  await t.rejects(startPeer("nats"), /no nats-server on PATH/);
});

t.test("Centrifugo's members hear what others publish, through its JSON protocol", async (t) => {
  withCentrifugo(t);
  t.equal(absence("centrifugo"), null);
  t.equal(versionOf("centrifugo"), "6.9.0");
  await fanOut(t, "centrifugo");
});

t.test("the members of nats-server hear what others publish, through its WebSocket", { skip: absent.nats }, (t) => fanOut(t, "nats"));

t.test("the members of nchan hear what others publish", { skip: absent.nchan }, (t) => fanOut(t, "nchan"));

t.test("a NATS conversation reads lines and payloads wherever they are cut", async (t) => {
  const stream = Buffer.from(`INFO {"x":1}\r\nPONG\r\n${[1, 2].map((n) => `MSG room 1 128\r\n${textPayload(n, 7)}\r\n`).join("")}-ERR 'Slow Consumer'\r\n`);
  for (const size of [1, 13, 200, stream.length]) {
    const events: string[] = [];
    const ear: Ear = {
      ready: () => void events.push("ready"),
      delivered: (_socket, counter, sentAt) => void events.push(`${counter} ${sentAt}`),
      refused: (_socket, text) => void events.push(text),
    };
    const conversation = new NatsConversation(0, "member", ear);
    for (let at = 0; at < stream.length; at += size) conversation.hear(opcodes.binary, stream, at, Math.min(at + size, stream.length));
    t.same(events, ["ready", "1 7", "2 7", "-ERR 'Slow Consumer'"]);
  }
});
