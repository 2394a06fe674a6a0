/**
 * Health check for containers, which have no curl. Finds the node in this container, asks its /health, and prints why
 * it is unhealthy. It runs every few seconds, so it loads little code.
 */
import { readFileSync } from "node:fs";
import { get as overHttp } from "node:http";
import { get as overHttps } from "node:https";
import { environmentOf, readListening, type Listening } from "./listening.ts";

const timeoutMs = 2500;
const bodyBytesMax = 200;
const nobody = "nothing listens on ";

interface Found extends Listening {
  /** Source of the address, for error texts. */
  readonly by: string;
}

/** If several nodes run here, all of them must be healthy. */
const found = await find();
const problems = (await Promise.all(found.map(ask))).filter((problem) => problem !== null);
for (const problem of problems) console.log(`not healthy: ${problem}`);
if (problems.length === 0) console.log(`healthy: ${found.map(({ node, port }) => `${node || "the node"} on port ${port}`).join(", ")}`);
process.exit(problems.length === 0 ? 0 : 1);

/** Sources, in this order: the files of running nodes, the command line of process 1, this environment. */
async function find(): Promise<Found[]> {
  const all = readListening().map((recorded) => ({ ...recorded, by: `recorded by process ${recorded.pid}` }));
  // Process 1 is the main process of the container.
  const first = all.filter(({ pid }) => pid === 1);
  if (first.length > 0) return first;
  const { FLUX_PORT: port = "", FLUX_NODE_ID: id = "", FLUX_TLS_CERT: certificate = "" } = process.env;
  const environment = environmentOf(process.env);
  const own = all.filter((one) => one.environment === environment || String(one.port) === port);
  if (own.length > 0) return own;
  // If no variable names a node, all nodes that run here are meant.
  if (port === "" && id === "" && all.length > 0) return all;
  const started = await ofProcessOne();
  if (started !== null) return [started];
  return [{ node: "", host: "127.0.0.1", port: Number(port || 8080), tls: certificate !== "", by: port === "" ? "the default" : "as FLUX_PORT says" }];
}

/** Process 1 may be the node, or an init whose command line ends with the node's. */
async function ofProcessOne(): Promise<Found | null> {
  try {
    const words = readList("/proc/1/cmdline");
    const start = words.findIndex((word, i) => word === "start" && /(?:^|\/)(?:flux-gateway|main\.js)$/.test(words[i - 1] ?? ""));
    if (start < 0) return null;
    const env = Object.fromEntries(readList("/proc/1/environ").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
    // File paths are relative to the node's directory.
    process.chdir("/proc/1/cwd");
    const [{ Command }, { addFlags, readFlags }, { loadConfig }] = await Promise.all([import("commander"), import("./flags.ts"), import("./load.ts")]);
    const command = addFlags(new Command());
    command.parseOptions(words.slice(start + 1));
    const { nodeId, host, port, tlsCert } = loadConfig(readFlags(command), env).config;
    return { node: env.FLUX_NODE_ID === undefined ? "" : nodeId, host, port, tls: tlsCert !== "", by: "by the command line of process 1" };
  } catch {
    // Another user's process, or a configuration that the node rejects too.
    return null;
  }
}

function readList(file: string): string[] {
  return readFileSync(file, "utf8").split("\0").filter((word) => word !== "");
}

/** Why the node is unhealthy; null if it is healthy. */
async function ask({ node, host, port, tls, by }: Found): Promise<string | null> {
  if (port === 0) return `the node chose a free port (port 0) and could not record it: allow it to write to /dev/shm or ${process.env.TMPDIR ?? "/tmp"}`;
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

/**
 * Local addresses, where the node listens on every address. Names are not resolved: a small image may have no resolver.
 */
function addressesOf(host: string): string[] {
  if (host === "0.0.0.0") return ["127.0.0.1"];
  return host === "::" || host.toLowerCase() === "localhost" ? ["127.0.0.1", "::1"] : [host];
}

function get(host: string, port: number, tls: boolean): Promise<string | null> {
  const where = `${tls ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}/health`;
  return new Promise((resolve) => {
    // The certificate is for the name that clients use.
    const options = { host, port, path: "/health", timeout: timeoutMs, rejectUnauthorized: false };
    const request = (tls ? overHttps : overHttp)(options, (response) => {
      if (response.statusCode === 200) return resolve(null);
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString().slice(0, bodyBytesMax)));
      response.on("close", () => resolve(`${where} answered ${response.statusCode}: ${body.slice(0, bodyBytesMax)}`));
    });
    // Also covers an answer that starts and never ends.
    setTimeout(() => resolve(`${where} did not answer within ${timeoutMs} ms: the node hangs or is overloaded; read its log`), timeoutMs);
    request.on("error", (error: NodeJS.ErrnoException) => {
      const isNobody = error.code === "ECONNREFUSED" || error.code === "EADDRNOTAVAIL";
      resolve(isNobody ? `${nobody}${where}: the node is starting, has exited, or listens on another port` : `${where}: ${error.message}${tls ? "" : "; check whether the node serves TLS"}`);
    });
  });
}
