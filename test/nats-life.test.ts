/** A node and its nats-server: at the start, while it is away, and when it is back. */
import t from "tap";
import { createGateway, ConfigError } from "../dist/index.js";
import { startNats } from "./support/nats.ts";
import { resumeSecret, startNode, type NodeOptions } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

const textsOf = ({ publications }: TestSession) => publications.map(({ payload }) => payload.toString());

t.test("a node is not ready while NATS is away for longer than the grace, keeps its sockets, and comes back by itself", async (t) => {
  const nats = await startNats(t);
  const node = await startNode(t, { nats: [nats.url], natsGraceMs: 100, natsTimeoutMs: 300 });
  const readyStatus = async () => (await fetch(`http://127.0.0.1:${node.port}/ready`)).status;
  const ann = await open(node);
  await ann.join("chat:x");
  t.equal(await readyStatus(), 200);
  await nats.stop();
  await until(async () => (await readyStatus()) === 503, "it not to be ready");
  t.equal(sumOf(await node.metrics(), "flux_nats_connected"), 0);
  const refused = await ann.request({ publish: { room: "chat:x", payload: Buffer.from("1"), format: 1 } });
  t.match(refused.error, { code: "unavailable", retryable: true });
  await nats.start();
  await until(async () => (await readyStatus()) === 200, "it to be ready");
  await until(async () => (await ann.request({ publish: { room: "chat:x", payload: Buffer.from("2"), format: 1 } })).published != null, "publishing to be possible");
  await ann.waitFor(() => textsOf(ann).includes("2"), "it to be delivered");
  t.equal(sumOf(await node.metrics(), "flux_nats_connected"), 1);
  t.equal(sumOf(await node.metrics(), "flux_nats_reconnects_total"), 1);
});

t.test("who comes back while NATS is away is given what it missed when that is there again, and is told of no gap", async (t) => {
  const nats = await startNats(t);
  const options = { nats: [nats.url], tailPublicationsMax: 10, commandsPerSecond: 0 };
  const node = await startNode(t, options);
  const ann = await open(node);
  const { position } = await ann.join("chat:x");
  for (let i = 0; i < 100; i++) await ann.publish("chat:x", String(i));
  const bob = await open(node);
  await nats.stop();
  await until(async () => sumOf(await node.metrics(), "flux_nats_connected") === 0, "the loss to be noticed");
  const joined = bob.request({ join: { room: "chat:x", recover: position } });
  t.match((await joined).joined, { recovered: true, more: true });
  const refused = await bob.request({ join: { room: "chat:closed" } });
  t.match(refused.error, { code: "unavailable" });
  await nats.start();
  await bob.waitFor(() => bob.publications.length >= 100, "all it missed");
  await until(async () => (await ann.request({ publish: { room: "chat:x", payload: Buffer.from("100"), format: 1 } })).published != null, "publishing to be possible");
  await bob.waitFor(() => bob.publications.length >= 101, "what follows");
  t.same(textsOf(bob), Array.from({ length: 101 }, (_, i) => String(i)));
  t.notOk(bob.events.some(({ sync }) => sync), "no gap");
});

t.test("a quiet ephemeral room: members are told of a loss at once, and nobody is told that nothing was lost", async (t) => {
  const nats = await startNats(t);
  const node = await startNode(t, { nats: [nats.url] });
  const [ann, bob] = [await open(node), await open(node)];
  const { position } = await ann.join("live:x");
  await nats.stop();
  await until(async () => sumOf(await node.metrics(), "flux_nats_connected") === 0, "the loss to be noticed");
  await nats.start();
  await ann.waitFor(() => ann.events.some(({ sync }) => sync != null), "the news of the gap");
  const { sync } = ann.events.find((event) => event.sync != null)!;
  t.match(sync, { room: "live:x", position: { epoch: position.epoch } });
  const joined = (await bob.request({ join: { room: "live:x", recover: position } })).joined;
  t.match(joined, { recovered: false, position: { seq: sync!.position!.seq } });
});

t.test("a session that is resumed while NATS is away is in its rooms when that is back", async (t) => {
  const nats = await startNats(t);
  const node = await startNode(t, { nats: [nats.url], roomsMax: 2 });
  const [ann, other] = [await open(node), await open(node)];
  await ann.join("chat:x");
  await other.join("chat:y");
  const position = await ann.publish("chat:x", '"1"');
  await lose(ann);
  // With two rooms at most, the one without members makes room.
  await until(async () => (await other.request({ join: { room: "chat:z" } })).joined != null, "the node to have noticed that");
  await other.leave("chat:z");
  await nats.stop();
  await until(async () => sumOf(await node.metrics(), "flux_nats_connected") === 0, "the loss to be noticed");
  const back = await open(node, { hello: resumeOf(ann, [{ room: "chat:x", position }]) });
  await nats.start();
  await back.waitFor(() => back.events.some(({ joined }) => joined?.room === "chat:x"), "it to be in its room");
  await until(async () => (await back.request({ publish: { room: "chat:x", payload: Buffer.from('"2"'), format: 1 } })).published != null, "publishing to be possible");
  await back.waitFor(() => textsOf(back).includes('"2"'), "what follows");
  t.equal(back.events.find(({ joined }) => joined)?.joined?.recovered, true);
  t.notOk(back.events.some(({ left }) => left), "it never left");
});

t.test("a server that comes back without its store: members are told of the gap", async (t) => {
  const nats = await startNats(t);
  const node = await startNode(t, { nats: [nats.url] });
  const [ann, bob] = [await open(node), await open(node, { json: true })];
  for (const session of [ann, bob]) await session.join("chat:x");
  const before = await ann.publish("chat:x", '"1"');
  await nats.kill();
  nats.wipe();
  await until(async () => sumOf(await node.metrics(), "flux_nats_connected") === 0, "the loss to be noticed");
  await nats.start();
  for (const session of [ann, bob]) {
    await session.waitFor(() => session.events.some(({ sync }) => sync?.room === "chat:x" && sync.position?.epoch !== before.epoch), "sync");
  }
  const back = await open(node);
  t.equal((await back.join("chat:x", { recover: before })).recovered, false);
  const after = await ann.publish("chat:x", '"2"');
  t.not(after.epoch, before.epoch);
  await bob.waitFor(() => textsOf(bob).at(-1) === '"2"', "what follows");
});

t.test("what is wrong with NATS at the start names the option, the server and what to do, and no secret", async (t) => {
  const problem = async (options: NodeOptions): Promise<string> => {
    const failure = await createGateway({ port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", resumeSecret, ...options }).then(
      async (gateway) => void (await gateway.close()),
      (error: unknown) => error,
    );
    if (!(failure instanceof ConfigError)) throw new Error(`no ConfigError, but ${String(failure)}`);
    return failure.message;
  };
  t.match(await problem({ nats: ["nats://ann:hunter2@127.0.0.1:1"] }), /^--nats nats:\/\/\[hidden\]@127\.0\.0\.1:1: nothing listens there; start nats-server/);
  const locked = await startNats(t, { flags: ["--user", "ann", "--pass", "hunter2"] });
  const refused = await problem({ nats: [locked.url], natsUser: "ann", natsPassword: "hunter3" });
  t.match(refused, /^--nats nats:\/\/127\.0\.0\.1:\d+: the server rejects --nats-user and --nats-password; correct them, or use another of --nats-creds/);
  t.notMatch(refused, "hunter");
  const inside = await startNode(t, { nats: [locked.url.replace("//", "//ann:hunter2@")], natsPrefix: "inside" });
  t.equal(sumOf(await inside.metrics(), "flux_nats_connected"), 1);
  const plain = await startNats(t, { jetStream: false });
  t.match(await problem({ nats: [plain.url] }), /JetStream is not enabled on the server.*start nats-server with -js/);
});

t.test("a stream that contradicts the configuration is told, field by field, and left as it is", async (t) => {
  const nats = await startNats(t);
  const namespaces = { chat: { historySize: 7, historyTtlMs: 3_600_000 } };
  await (await startNode(t, { nats: [nats.url], namespaces })).close();
  const start = (options: NodeOptions) => createGateway({ port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", nats: [nats.url], resumeSecret, namespaces, ...options });
  const wrong: { options: NodeOptions; says: RegExp }[] = [
    { options: { namespaces: { chat: { historySize: 8, historyTtlMs: 3_600_000 } } }, says: /stream FLUX_chat_0 has max_msgs_per_subject 8, but the configuration requires 9: set historySize of namespace chat to 7, or change the stream/ },
    { options: { namespaces: { chat: { historySize: 7, historyTtlMs: 7_200_000 } } }, says: /FLUX_chat_0 has max_age 3600000 ms, but the configuration requires 7200000 ms: set historyTtlMs of namespace chat/ },
    { options: { natsStorage: "memory" }, says: /has storage file, but the configuration requires memory: set --nats-storage to file/ },
    { options: { natsPartitions: 3 }, says: /has partitions 4, but the configuration requires 3: set --nats-partitions to 4/ },
    { options: { keyWindowMs: 60_000 }, says: /has duplicate_window 120000 ms, but the configuration requires 60000 ms: set --key-window-ms/ },
    { options: { inboxSize: 5 }, says: /FLUX__inbox_0 has max_msgs_per_subject 1001, but the configuration requires 6: set --inbox-size to 1000/ },
  ];
  for (const { options, says } of wrong) await t.rejects(start(options), { name: "ConfigError", message: says });
  const again = await start({});
  await again.close();
});
