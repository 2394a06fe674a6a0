import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import t from "tap";
import { createLogger } from "../src/platform/log/log.ts";
import { linesLost, logOutput } from "../src/platform/log/output.ts";
import { freePort } from "../src/node/ports.ts";
import { plainly } from "./support/command.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { until } from "./support/until.ts";

/** What is logged, as text. */
function recorder(): { text: () => string; write: (line: string) => void } {
  const lines: string[] = [];
  return { text: () => lines.join(""), write: (line) => void lines.push(line) };
}

t.test("JSON logs have a level by name, a time, the node and the message", async (t) => {
  const out = recorder();
  createLogger({ logLevel: "info", logFormat: "json", nodeId: "n1" }, out).warn({ port: 1 }, "here");
  t.match(JSON.parse(out.text()), { level: "warn", time: /^\d{4}-.*Z$/, node: "n1", port: 1, msg: "here" });
});

t.test("pretty logs are one readable line a record", async (t) => {
  const out = recorder();
  createLogger({ logLevel: "info", logFormat: "pretty", nodeId: "n1" }, out).info({ port: 1 }, "here");
  t.match(out.text(), /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: here \{"port":1\}\n$/);
});

for (const logFormat of ["json", "pretty"] as const) {
  t.test(`${logFormat} logs leave out what is below the level, and everything if silent`, async (t) => {
    const out = recorder();
    createLogger({ logLevel: "warn", logFormat, nodeId: "n1" }, out).info("no");
    createLogger({ logLevel: "silent", logFormat, nodeId: "n1" }, out).fatal("no");
    t.equal(out.text(), "");
  });

  t.test(`secrets do not get into ${logFormat} logs`, async (t) => {
    const out = recorder();
    const log = createLogger({ logLevel: "info", logFormat, nodeId: "n1" }, out);
    log.info({ token: "SECRET", authorization: "SECRET" }, "flat");
    log.info({ hello: { token: "SECRET", client: "shown" }, request: { headers: { authorization: "SECRET" }, a: { b: { resumeToken: "SECRET" } } } }, "nested");
    log.info({ url: "/ws?token=SECRET&room=shown" }, "address");
    log.child({ token: "SECRET" }).info("child");
    t.notMatch(out.text(), /SECRET/);
    t.equal(out.text().match(/shown/g)?.length, 2);
    t.equal(out.text().match(/\[hidden\]/g)?.length, 7);
  });
}

t.test("output that fails in the middle of a line costs that line: the next begins anew", async (t) => {
  const before = linesLost();
  let got = "";
  const room: (number | string)[] = [3, "ENOSPC", 100, "EAGAIN", 2, 100];
  const out = logOutput((bytes) => {
    const next = room.shift() ?? bytes.length;
    if (typeof next === "string") throw Object.assign(new Error(next), { code: next });
    got += bytes.subarray(0, next).toString();
    return Math.min(next, bytes.length);
  });
  for (const line of ["first\n", "second\n", "third\n"]) out.write(line);
  t.equal(got, "fir\nsecond\nthird\n");
  t.equal(linesLost() - before, 1);
});

t.test("a pipe that stays full is not waited for for ever", async (t) => {
  const before = linesLost();
  logOutput(() => {
    throw Object.assign(new Error("full"), { code: "EAGAIN" });
  }).write("line\n");
  t.equal(linesLost() - before, 1);
});

for (const [what, format] of [["a full disk", "json"], ["a full disk", "pretty"], ["a reader that is gone", "json"], ["a reader that is gone", "pretty"]] as const) {
  t.test(`${what} behind standard output ends no node, with ${format} lines: they are counted`, async (t) => {
    const adminPort = await freePort();
    const args = ["start", "--port", "0", "--admin-port", String(adminPort), "--no-demo", "--reactors", "1", "--drain-ms", "0", "--log-format", format];
    const out = what === "a full disk" ? openSync("/dev/full", "w") : "pipe";
    const child = spawn("env", plainly(args), { stdio: ["ignore", out, "ignore"], env: { PATH: process.env.PATH ?? "" } });
    t.teardown(() => child.kill("SIGKILL"));
    child.stdout?.destroy();
    const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
    const metrics = () => fetch(`http://127.0.0.1:${adminPort}/metrics`).then((answer) => answer.text(), () => "");
    await until(async () => (await metrics()) !== "" || child.exitCode !== null, "the node to serve");
    // An action on the admin port is a line of the log.
    const acted = await fetch(`http://127.0.0.1:${adminPort}/disconnect`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ user: "nobody" }) });
    t.equal(acted.status, 200, await acted.text());
    t.ok(sumOf(await metrics(), "flux_log_lines_lost_total") > 0);
    child.kill("SIGTERM");
    t.equal(await ended, 0);
  });
}
