/** Control: the `ws` package. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import { leaveOnTerminate, listening } from "./control.ts";

const members = new Set<WebSocket>();
const http = createServer((_request, response) => response.end("hello"));
const server = new WebSocketServer({ server: http, perMessageDeflate: false });

server.on("connection", (socket, request) => {
  if (request.url === "/echo") {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    return;
  }
  members.add(socket);
  socket.on("message", publish);
  socket.on("close", () => members.delete(socket));
});

function publish(data: RawData, isBinary: boolean): void {
  for (const member of members) member.send(data, { binary: isBinary });
}

http.listen(0, "127.0.0.1", 511, () => listening((http.address() as AddressInfo).port));
leaveOnTerminate();
