/** What image.sh asks of a node in a container: node --import tsx test/image/client.ts ADDRESS job|stay|write|read. */
import { WebSocket } from "ws";
import { connect, type Client } from "../../src/client/index.ts";
import { until } from "../support/until.ts";

const [, , address = "", what = ""] = process.argv;
const members = 50;
const publications = 200;
const url = `ws://${address}:8080/ws`;
const client = (): Client => connect(url, { WebSocket: WebSocket as never, storage: null });

/** One publishes, all get everything, in order. */
async function job(): Promise<string> {
  const clients = Array.from({ length: members }, client);
  const got = clients.map(() => [] as unknown[]);
  const rooms = clients.map((one, i) => one.join("chat:a", { onPublication: ({ data }) => void got[i]!.push(data) }));
  await Promise.all(rooms.map((room) => room.joined));
  const sent = Array.from({ length: publications }, (_, n) => `${n}`.padEnd(500, "."));
  for (const data of sent) await rooms[0]!.publish(data);
  await until(() => got.every((data) => data.length >= publications), "every publication at every member", 60_000);
  if (got.some((data) => data.join() !== sent.join())) throw new Error("out of order");
  return `${publications} publications at ${members} members`;
}

/** Stays until the node drains: it is closed with 3001 and told when to come back. */
async function stay(): Promise<string> {
  const one = client();
  for (const name of ["state", "error"] as const) one.on(name as never, (what: unknown) => console.log(name, JSON.stringify(what)));
  await until(() => one.state === "ready", "a session", 60_000);
  console.log("ready");
  const socket = new Promise<number>((resolve) => {
    const ws = new WebSocket(url, "flux.v1.json");
    ws.on("open", () => ws.send(JSON.stringify({ id: 1, hello: { version: 1 } })));
    ws.on("close", resolve);
  });
  const code = await socket;
  if (code !== 3001) throw new Error(`closed with ${code}`);
  return "closed with 3001";
}

async function write(): Promise<string> {
  const room = client().join("chat:kept");
  await room.joined;
  for (let n = 0; n < 20; n++) await room.publish(n);
  return "20 acknowledged";
}

async function read(): Promise<string> {
  const got: unknown[] = [];
  const room = client().join("chat:kept", { history: 100, onPublication: ({ data }) => void got.push(data) });
  await room.joined;
  await until(() => got.length >= 20, "the history", 60_000);
  if (got.join() !== Array.from({ length: 20 }, (_, n) => n).join()) throw new Error(`the history is ${got.join()}`);
  return "20 are there";
}

const jobs: Record<string, () => Promise<string>> = { job, stay, write, read };
console.log(await jobs[what]!());
process.exit(0);
