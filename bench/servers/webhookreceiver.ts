/** The endpoint of webhooks for their row: node:http, every event is taken after 1 ms. GET says what it has got. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { leaveOnTerminate, listening } from "./control.ts";

const delayMs = 1;
const ids = new Set<string>();
const byType = new Map<string, number>();
let [count, firstAt, lastAt] = [0, 0, 0];

const server = createServer((req, res) => {
  let body = "";
  req.on("data", (piece: Buffer) => (body += piece.toString("latin1")));
  req.on("end", () => {
    if (req.method === "GET") return res.end(JSON.stringify({ count, unique: ids.size, firstAt, lastAt, byType: Object.fromEntries(byType) }));
    note(req, body);
    setTimeout(() => res.writeHead(204).end(), delayMs);
  });
});

function note(req: IncomingMessage, body: string): void {
  lastAt = performance.now();
  if (count++ === 0) firstAt = lastAt;
  const id = String(req.headers["webhook-id"]);
  if (ids.has(id)) return;
  ids.add(id);
  const type = /"type":"([a-z.]+)"/.exec(body)?.[1] ?? "";
  byType.set(type, (byType.get(type) ?? 0) + 1);
}

server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", 511, () => listening((server.address() as AddressInfo).port));
leaveOnTerminate();
