/** The conformance kit: our SDK and a small client in JSON pass it, and it finds each thing that a client does wrong. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { connect } from "../src/client/index.ts";
import { situations, startKit, type Kit } from "../src/conformance/kit.ts";
import { describeResult, describeSum, isSound } from "../src/conformance/report.ts";
import { playAll } from "../src/conformance/run.ts";
import type { Result, Situation } from "../src/conformance/situation.ts";
import { bin } from "./support/command.ts";
import { startJsonClient, type Fault } from "./support/jsonclient.ts";
import { WebSocket } from "ws";

/** Steps that do not come: each waits this long, all at the same time. Right clients are not waited for. */
const lateMs = 4000;

async function kitFor(t: Test, timeoutMs: number, quietMs = 200, patience = 1, arrays = true): Promise<Kit> {
  const kit = await startKit({ host: "127.0.0.1", port: 0, timeoutMs, quietMs, patience, arrays });
  t.teardown(() => kit.close());
  return kit;
}

/** The frames only where they help. */
function explain({ situation, fault, trace }: Result): string {
  return fault === "" ? situation.name : `${situation.name}: ${fault} ${trace.join(" | ")}`;
}

t.test("our SDK passes every situation", async (t) => {
  const kit = await kitFor(t, 30_000);
  const results = await Promise.all(situations.map(async (situation) => {
    const playing = kit.play(situation);
    const client = connect(kit.url(situation), {
      WebSocket, storage: null, backoff: { baseMs: 10, capMs: 1000 }, graceMs: 100, device: "d",
      token: () => Promise.resolve(`t${Math.random()}`),
    });
    const log = (report: unknown) => void client.publish("conformance:log", report).catch(() => {});
    const room = client.join("conformance:room");
    room.on("publication", ({ position, data }) => log({ publication: position.seq, data }));
    room.on("gap", ({ from, to }) => log({ gap: { from: from.seq, to: to.seq } }));
    const members = room.members();
    members.on("changed", () => log({ members: members.list.map(({ user }) => user) }));
    client.onMessage(({ position }) => log({ message: position.seq }));
    const result = await playing;
    await client.close();
    return result;
  }));
  for (const result of results) {
    t.equal(result.outcome, "passed", explain(result));
    t.strictSame(result.advice, [], `${result.situation.name}: no advice`);
    t.equal(result.format, "protobuf");
  }
});

for (const format of ["JSON arrays", "JSON"] as const) {
  t.test(`a small client that offers arrays passes every situation in ${format}${format === "JSON" ? ", which is what nodes choose that do not know arrays" : ""}`, async (t) => {
    const kit = await kitFor(t, 30_000, 200, 1, format === "JSON arrays");
    for (const result of await Promise.all(situations.map((situation) => playJson(kit, situation)))) {
      t.equal(result.outcome, "passed", explain(result));
      t.equal(result.format, format);
    }
  });
}

/** What a client does wrong, the situation that finds it, and what the kit says. */
const wrong: readonly (readonly [fault: Fault | "reads no split frames", situation: string, says: RegExp])[] = [
  ["no hello", "basics", /first frame has to be hello.*sent join/],
  ["old version", "basics", /version 2 of the protocol.*has to be 1/],
  ["no key", "basics", /without a key/],
  ["same id", "basics", /id \d+ for two commands/],
  ["binary on a text socket", "basics", /binary message on a socket of JSON arrays/],
  ["no JSON", "basics", /text that is not JSON/],
  ["unknown field", "basics", /bad_request: .*wrongField/],
  ["changes data", "basics", /publication 11 with other data/],
  ["reads no split frames", "framing", /did not deliver publication 13|closed the socket/],
  ["reads the first of an array", "framing", /did not deliver publication 12/],
  ["dies of unknown events", "unknown", /closed the socket \(4000\)/],
  ["delivers doubles", "duplicate", /publication 12 twice/],
  ["takes skipped numbers for a gap", "sparse", /asked for .*history.*nothing was missing/],
  ["delivers over a gap", "gap", /publication 14 where publication 12 has to come first/],
  ["hides gaps", "gap-lost", /publication 14 without a report of the gap.*after 11, up to 13/],
  ["ignores epochs", "epoch", /did not deliver a gap|without a report of the gap/],
  ["ignores sync", "sync", /did not ask history|where publication 12/],
  ["hides gaps", "sync-lost", /without a report of the gap/],
  ["ignores published", "excluded", /asked for .*history.*nothing was missing/],
  ["drops replays", "catch-up", /asked for .*history|where publication 12/],
  ["joins after left", "left-removed", /names a position there|joined it again/],
  ["joins after left", "left-forbidden", /names a position there|joined it again/],
  ["joins without recover", "resume-refused", /without recover/],
  ["believes every join", "not-recovered", /asked for .*history|without a report of the gap/],
  ["believes every join", "kept", /publication 18 without a report of the gap|where publication|asked for .*history/],
  ["hides gaps", "replay-cut", /without a report of the gap/],
  ["first session for ever", "newest-session", /newest one is "session-2"/],
  ["no positions", "resume", /has no position/],
  ["first token for ever", "resume", /newest one is "resume-b"/],
  ["joins resumed rooms", "resume", /asked for .*join|nothing was missing/],
  ["never resumes", "resume-head", /began a new session/],
  ["never connects again", "slow", /3008. The client did not connect again/],
  ["never connects again", "proxy", /1001. The client did not connect again/],
  ["comes back at once", "drain", /after \d+ ms.*delayMs: 8000/],
  ["ignores reconnect", "moved", /another address, which ends with \/owner\/ws. The client connected to \/ws/],
  ["comes back at once", "wait", /after \d+ ms.*delayMs: 6000/],
  ["comes back at once", "window", /after \d+ ms.*12000 ms/],
  ["never pings", "silence", /did not send ping/],
  ["never drops a silent socket", "silence", /did not drop the socket/],
  ["ends at 503", "unavailable", /503. The client did not try again/],
  ["connects after every close", "terminal", /3504.*connected again/],
  ["connects after every close", "denied", /4512. The client connected again/],
  ["never refreshes", "expiring", /did not send refresh/],
  ["old token", "expiring", /refresh has the old token/],
  ["first token for ever", "expiring", /newest one is "resume-new"/],
  ["old token", "expired", /the next hello has the old token/],
  ["never repeats", "repeat", /did not send the publish again/],
  ["new key for repeats", "repeat", /with another key/],
  ["repeats after duplicate", "repeat", /answered with duplicate: true/],
  ["never retries", "retry", /did not send it again/],
  ["retries refusals", "refused", /not.*retryable: false|refused with forbidden, retryable: false/],
  ["one page of members", "presence", /did not ask for the page after it/],
  ["ignores versions", "presence", /version 8 after 6/],
  ["never acknowledges", "inbox", /did not acknowledge/],
  ["acknowledges too much", "inbox", /acknowledged 1[67]. The last message is 12/],
];

t.test("each thing that a client may do wrong is found, and said", async (t) => {
  // A situation has one path: rows of the same situation need kits of their own.
  const kits: Kit[] = [];
  const rows = wrong.map((row, i) => ({ row, nth: wrong.slice(0, i).filter(([, name]) => name === row[1]).length }));
  while (kits.length <= Math.max(...rows.map(({ nth }) => nth))) kits.push(await kitFor(t, lateMs, lateMs, 20));
  const played = await Promise.all(rows.map(async ({ row, nth }) => {
    const situation = situations.find(({ name }) => name === row[1])!;
    return [row, await (row[0] === "reads no split frames" ? playCareless(kits[nth]!, situation) : playJson(kits[nth]!, situation, row[0] as Fault))] as const;
  }));
  for (const [[fault, name, says], result] of played) {
    t.match(result.fault, says, `${fault}: ${result.situation.name}`);
    t.equal(result.outcome, "failed", `a client that ${fault} in ${name}`);
  }
  const tried = new Set(wrong.map(([, name]) => name));
  t.strictSame(situations.map(({ name }) => name).filter((name) => !tried.has(name)), [], "every situation finds something");
});

t.test("the command runs the driver of docs/conformance.md for each situation, and exits with 0", async (t) => {
  const driver = readFileSync(new URL("../docs/conformance.md", import.meta.url), "utf8").split("```js file=driver.mjs\n")[1]!.split("```")[0]!;
  const folder = t.testdir({
    "driver.mjs": driver,
    // Node 20 has none.
    "websocket.mjs": 'import { WebSocket } from "ws";\nglobalThis.WebSocket ??= WebSocket;\n',
  });
  const driven = [process.execPath, "--import", join(folder, "websocket.mjs"), join(folder, "driver.mjs")];
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, "conformance", "--port", "0", "--timeout", "60000", "--only", "gap,terminal,inbox", "--without", "inbox", "--", ...driven], { encoding: "utf8", env: { PATH: process.env.PATH } });
  t.equal(status, 0, stdout + stderr);
  t.match(stdout, /^skip {2}inbox[^]*pass {2}gap .*\(protobuf\)[^]*pass {2}terminal[^]*2 of 2 situations passed. 1 skipped.$/m);
});

t.test("a driver that ends is a failure, with what it said; unless the client has to stay away", async (t) => {
  const kit = await kitFor(t, 30_000, 30_000);
  const told: [Result, string][] = [];
  await playAll(kit, {
    situations: situations.filter(({ name }) => name === "gap"), without: new Set(), driver: [process.execPath, "-e", "console.log('hello'); process.exit(3)"],
    onResult: (result, output) => told.push([result, output]),
  });
  const results = told.map(([result]) => result);
  t.match(results.map(describeResult).join(), /FAIL {2}gap[^]*The driver ended \(exit code 3\) before the situation was over\.[^]*docs\/protocol.md, "Positions/);
  t.match(told[0]?.[1], /hello/);
  t.equal(describeSum(results), "0 of 1 situations passed. 1 failed: gap.");
  t.notOk(isSound(results));
});

/** Our SDK on a socket that loses the small messages: those with parts of a frame. */
async function playCareless(kit: Kit, situation: Situation): Promise<Result> {
  class Careless extends WebSocket {
    override emit(name: string | symbol, ...args: unknown[]): boolean {
      return name === "message" && (args[0] as ArrayBuffer).byteLength < 4 ? false : super.emit(name, ...args);
    }
  }
  const playing = kit.play(situation);
  const client = connect(kit.url(situation), { WebSocket: Careless, storage: null });
  client.join("conformance:room").on("publication", ({ position, data }) => void client.publish("conformance:log", { publication: position.seq, data }).catch(() => {}));
  const result = await playing;
  await client.close();
  return result;
}

async function playJson(kit: Kit, situation: Situation, fault: Fault | "" = ""): Promise<Result> {
  const playing = kit.play(situation);
  const client = startJsonClient(kit.url(situation), fault);
  const result = await playing;
  client.close();
  return result;
}
