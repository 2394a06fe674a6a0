/**
 * For health checks of containers, which have no curl: finds the node that runs in this container, asks it whether it
 * lives, and prints why it is not healthy. It is asked every few seconds, so it loads little.
 */
import { readFileSync } from "node:fs";
import { get as overHttp } from "node:http";
import { get as overHttps } from "node:https";
import { environmentOf, readListening, type Listening } from "./listening.ts";

const timeoutMs = 2500;
const bodyBytesMax = 200;
const nobody = "nothing listens on ";

interface Found extends Listening {
  /** Where its address is from, for people. */
  readonly by: string;
}

/** Where several nodes could be meant, all of them have to be healthy. */
const found = await find();
const problems = (await Promise.all(found.map(ask))).filter((problem) => problem !== null);
for (const problem of problems) console.log(`not healthy: ${problem}`);
if (problems.length === 0) console.log(`healthy: ${found.map(({ node, port }) => `${node || "the node"} on port ${port}`).join(", ")}`);
process.exit(problems.length === 0 ? 0 : 1);

/** What the nodes wrote down counts most; where there is nothing, what process 1 was started with; then this environment. */
async function find(): Promise<Found[]> {
  const all = readListening().map((recorded) => ({ ...recorded, by: `as process ${recorded.pid} wrote down` }));
  // Process 1 is what the container runs.
  const first = all.filter(({ pid }) => pid === 1);
  if (first.length > 0) return first;
  const { FLUX_PORT: port = "", FLUX_NODE_ID: id = "", FLUX_TLS_CERT: certificate = "" } = process.env;
  const environment = environmentOf(process.env);
  const own = all.filter((one) => one.environment === environment || String(one.port) === port);
  if (own.length > 0) return own;
  // Without a variable that names one, the nodes that run are those that are meant.
  if (port === "" && id === "" && all.length > 0) return all;
  const started = await ofProcessOne();
  if (started !== null) return [started];
  return [{ node: "", host: "127.0.0.1", port: Number(port || 8080), tls: certificate !== "", by: port === "" ? "the default" : "as FLUX_PORT says" }];
}

/** Process 1 may be the node, or an init that has the node's command line at the end of its own. */
async function ofProcessOne(): Promise<Found | null> {
  try {
    const words = readList("/proc/1/cmdline");
    const start = words.findIndex((word, i) => word === "start" && /(?:^|\/)(?:flux-gateway|main\.js)$/.test(words[i - 1] ?? ""));
    if (start < 0) return null;
    const env = Object.fromEntries(readList("/proc/1/environ").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
    // A file's path is relative to the node's directory.
    process.chdir("/proc/1/cwd");
    const [{ Command }, { addFlags, readFlags }, { loadConfig }] = await Promise.all([import("commander"), import("./flags.ts"), import("./load.ts")]);
    const command = addFlags(new Command());
    command.parseOptions(words.slice(start + 1));
    const { nodeId, host, port, tlsCert } = loadConfig(readFlags(command), env).config;
    return { node: env.FLUX_NODE_ID === undefined ? "" : nodeId, host, port, tls: tlsCert !== "", by: "as process 1 was started" };
  } catch {
    // Another user's process, or a configuration that its node refuses, too.
    return null;
  }
}

function readList(file: string): string[] {
  return readFileSync(file, "utf8").split("\0").filter((word) => word !== "");
}

/** Why it is not healthy; null: it is. */
async function ask({ node, host, port, tls, by }: Found): Promise<string | null> {
  if (port === 0) return `the node took a free port (port 0) and could not write down which: let it write to /dev/shm or ${process.env.TMPDIR ?? "/tmp"}`;
  const who = node === "" ? "" : `${node}: `;
  let problem = "";
  for (const address of addressesOf(host)) {
    const answer = await get(address, port, tls);
    if (answer === null) return null;
    problem = answer;
    if (!problem.startsWith(nobody)) break;
  }
  return `${who}${problem} (port ${port}, ${by})`;
}

/** Of this machine, where the node listens on all of them; names are not asked for: a small image may resolve none. */
function addressesOf(host: string): string[] {
  if (host === "0.0.0.0") return ["127.0.0.1"];
  return host === "::" || host.toLowerCase() === "localhost" ? ["127.0.0.1", "::1"] : [host];
}

function get(host: string, port: number, tls: boolean): Promise<string | null> {
  const where = `${tls ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}/health`;
  return new Promise((resolve) => {
    // Its certificate is for the name by which clients know it.
    const options = { host, port, path: "/health", timeout: timeoutMs, rejectUnauthorized: false };
    const request = (tls ? overHttps : overHttp)(options, (response) => {
      if (response.statusCode === 200) return resolve(null);
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString().slice(0, bodyBytesMax)));
      response.on("close", () => resolve(`${where} answered ${response.statusCode}: ${body.slice(0, bodyBytesMax)}`));
    });
    // Also for an answer that begins and does not end.
    setTimeout(() => resolve(`${where} did not answer within ${timeoutMs} ms: the node hangs, or its threads have more to do than they can`), timeoutMs);
    request.on("error", (error: NodeJS.ErrnoException) => {
      const isNobody = error.code === "ECONNREFUSED" || error.code === "EADDRNOTAVAIL";
      resolve(isNobody ? `${nobody}${where}: the node is starting, has ended, or listens elsewhere` : `${where}: ${error.message}${tls ? "" : "; does the node serve TLS?"}`);
    });
  });
}
