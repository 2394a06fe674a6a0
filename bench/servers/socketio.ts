/**
 * Control: socket.io with the WebSocket transport only. With REDIS_URL, several processes work together through its
 * Redis adapter.
 */
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server } from "socket.io";
import { leaveOnTerminate, listening } from "./control.ts";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

const { REDIS_URL: redis } = process.env;
if (redis !== undefined) io.adapter(createAdapter(new Redis(redis), new Redis(redis)));

io.on("connection", (socket) => {
  if (socket.handshake.query.role === "echo") {
    socket.on("m", (data) => void socket.emit("m", data));
    return;
  }
  void socket.join("room");
  socket.on("m", (data) => void io.to("room").emit("m", data));
});

http.listen(0, "127.0.0.1", 511, () => listening((http.address() as AddressInfo).port));
leaveOnTerminate();
