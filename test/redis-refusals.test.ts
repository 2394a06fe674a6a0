/** A Redis that answers and refuses: a node that starts says what was refused, in the server's words, and what to do. */
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import t, { type Test } from "tap";
import { ConfigError } from "../src/config/config.ts";
import { createGateway } from "../src/index.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { command } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const redisPrefix = freshPrefix();

async function problemOf(address: string): Promise<string> {
  const failure = await createGateway({ port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", redis: address, redisPrefix }).then(
    async (gateway) => void (await gateway.close()),
    (error: unknown) => error,
  );
  if (!(failure instanceof ConfigError)) throw new Error(`no ConfigError, but ${failure instanceof Error ? failure.stack : String(failure)}`);
  return failure.message;
}

let users = 0;

async function addressOf(...rights: string[]): Promise<string> {
  const user = `u${++users}`;
  await redis.client.acl("SETUSER", user, "on", ">hush", ...rights);
  return `redis://${user}:hush@127.0.0.1:${redis.port}`;
}

const all = [`~${redisPrefix}*`, `&${redisPrefix}*`, "+@all"];

const lacking: [what: string, rights: string[], said: RegExp][] = [
  ["no right to write", [...all, "-@write"], /Redis refuses set t\d+-\d+:gateway:rights:\S+ \(and .*hset.*zadd.*del\): NOPERM .*'set' command/],
  ["no right to read", [...all, "-@read"], /Redis refuses get t\d+-\d+:gateway:rights:\S+ \(and .*hgetall.*\): NOPERM .*'get' command/],
  ["no right to publish", [...all, "-publish"], /Redis refuses publish t\d+-\d+:gateway:rights: NOPERM .*'publish' command/],
  ["no right to subscribe", [...all, "-subscribe"], /Redis refuses subscribe t\d+-\d+:presence: NOPERM .*'subscribe' command/],
  ["no channel", [`~${redisPrefix}*`, "+@all", "resetchannels"], /Redis refuses publish t\d+-\d+:gateway:rights: NOPERM .*channel/],
  ["no script", [...all, "-eval"], /Redis refuses eval t\d+-\d+:gateway:rights:\S+: NOPERM .*'eval' command/],
  ["no script by its hash", [...all, "-evalsha"], /Redis refuses evalsha t\d+-\d+:gateway:rights:\S+: NOPERM .*'evalsha' command/],
  ["no clock", [...all, "-time"], /Redis refuses time: NOPERM .*'time' command/],
  ["the keys of another prefix", [`~other:*`, `&${redisPrefix}*`, "+@all"], /Redis refuses set t\d+-\d+:gateway:rights:\S+ \(and .*\): NOPERM .*keys/],
];

for (const [what, rights, said] of lacking) {
  t.test(`a user with ${what} is told which command was refused and what it needs`, async (t) => {
    const problem = await problemOf(await addressOf(...rights));
    t.match(problem, said);
    t.match(problem, new RegExp(`^--redis redis://127\\.0\\.0\\.1:${redis.port}: `));
    t.match(problem, `ACL SETUSER u${users} ~${redisPrefix}* &${redisPrefix}* +@read`);
    t.notMatch(problem, "hush");
  });
}

t.test("what the error tells to give is enough", async (t) => {
  const problem = await problemOf(await addressOf());
  const rights = /ACL SETUSER \S+ (~.*?);/.exec(problem)?.[1]?.split(" ") ?? [];
  t.ok(rights.length > 5, problem);
  const address = await addressOf(...rights);
  const node = await startNode(t, { redis: address, redisPrefix });
  t.equal((await fetch(`http://127.0.0.1:${node.port}/ready`)).status, 200);
  t.strictSame(await redis.client.keys(`${redisPrefix}gateway:rights*`), [], "and nothing is left of what was tried");
});

t.test("the command exits with an error and one line, without a stack", async (t) => {
  const address = await addressOf(...all, "-@write");
  const { code, err } = await command(["start", "--port", "0", "--admin-port", "0", "--no-demo", "--reactors", "1", "--redis", address, "--redis-prefix", redisPrefix]);
  t.not(code, 0);
  t.match(err, /Redis refuses set/);
  t.notMatch(err, /\n\s+at /);
});

interface Scripted {
  readonly url: string;
  /** All there ever were. */
  connections(): number;
  stop(): Promise<void>;
}

/** Answers everything with a line, and closes if it is told to. */
async function startScripted(t: Pick<Test, "teardown">, line: string, isClosing: boolean, port = 0): Promise<Scripted> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    if (isClosing) return void socket.end(`${line}\r\n`);
    socket.on("data", (data: Buffer) => {
      // One answer for each command: a command is an array of strings.
      for (const _ of data.toString().matchAll(/^\*\d+\r$/gm)) socket.write(`${line}\r\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const stop = () => {
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  };
  t.teardown(stop);
  return { url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`, connections: () => sockets.size, stop };
}

const answers: [line: string, isClosing: boolean, said: RegExp][] = [
  ["-DENIED Redis is running in protected mode because protected mode is enabled and no password is set", true, /DENIED Redis is running in protected mode.*protected-mode no/],
  ["-ERR max number of clients reached", true, /ERR max number of clients reached.*maxclients/],
  ["-NOAUTH Authentication required.", false, /NOAUTH Authentication required.*redis:\/\/user:password@host:port/],
  ["-LOADING Redis is loading the dataset in memory", false, /LOADING Redis is loading the dataset in memory.*start the node again/],
  ["-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", false, /MASTERDOWN Link with MASTER is down.*primary/],
];

for (const [line, isClosing, said] of answers) {
  t.test(`a server that answers ${line.slice(0, 12)}${isClosing ? " and closes" : ""}: the node says what it said`, async (t) => {
    const problem = await problemOf((await startScripted(t, line, isClosing)).url);
    t.match(problem, said);
    t.notMatch(problem, /Connection is closed|Command queue state/);
  });
}

t.test("one that lets nobody in any more while nodes run: the log says once what it answers, and the connection is made again when it does", async (t) => {
  const own = await startRedis(t);
  const said: string[] = [];
  const log = { info() {}, warn: (fields: object, text: string) => void said.push(`${text}: ${String((fields as { problem?: unknown }).problem)}`) };
  const link = await openRedis({ target: readRedisTarget(own.url)!, answerMs: 2_000, log });
  t.teardown(() => link.close());
  await own.stop();
  const refusing = await startScripted(t, "-DENIED Redis is running in protected mode", true, own.port);
  await until(() => refusing.connections() >= 6, "the node to try again");
  t.equal(said.filter((line) => /refuses this node.*: DENIED Redis is running in protected mode/.test(line)).length, 1, said.join("\n"));
  await refusing.stop();
  await own.start();
  await until(() => link.up, "the node to be connected again");
});
