/**
 * Stands in for Centrifugo: as much of its JSON client protocol as the load client of the bench speaks. It is as strict
 * as the protocol is: connect first, then subscribe, and a publish only from a client that answered the ping.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const [flag, path] = process.argv.slice(2);
if (flag === "version") {
  process.stdout.write("Centrifugo v6.9.0 (Go version: go1.25)\n");
  process.exit(0);
}
const config = JSON.parse(readFileSync(path, "utf8"));
const subscribers = new Set();
let offset = 0;

const http = createServer((request, response) => response.writeHead(request.url === "/health" && config.health.enabled ? 200 : 404).end("{}"));
const server = new WebSocketServer({ server: http, path: "/connection/websocket" });

server.on("connection", (socket) => {
  const client = { connected: false, ponged: false };
  socket.on("message", (data) => {
    const replies = data.toString().split("\n").filter(Boolean).flatMap((line) => answer(socket, client, JSON.parse(line)));
    if (replies.length > 0) socket.send(replies.map((reply) => JSON.stringify(reply)).join("\n"));
  });
  socket.on("close", () => subscribers.delete(socket));
});

function answer(socket, client, { id, connect, subscribe, publish }) {
  if (id === undefined) {
    client.ponged = true;
    return [];
  }
  if (connect) {
    client.connected = config.client.insecure === true;
    return client.connected ? [{ id, connect: { client: "c", version: "6.9.0", ping: 25, pong: true } }] : [{ id, error: { code: 101, message: "unauthorized" } }];
  }
  if (!client.connected) return [{ id, error: { code: 107, message: "bad request" } }];
  if (subscribe) {
    subscribers.add(socket);
    return [{ id, subscribe: { recoverable: true, epoch: "e", offset, positioned: true } }, {}];
  }
  if (!client.ponged) return [{ id, error: { code: 108, message: "not available" } }];
  const push = { push: { channel: publish.channel, pub: { data: publish.data, info: { user: "", client: "c" }, offset: ++offset } } };
  for (const other of subscribers) if (other !== socket) other.send(JSON.stringify(push));
  return [{ id, publish: {} }, push];
}

http.listen(config.http_server.port, config.http_server.address);
process.on("SIGTERM", () => process.exit(0));
