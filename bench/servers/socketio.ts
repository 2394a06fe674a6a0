/** Control: socket.io, WebSocket transport only. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server } from "socket.io";
import { leaveOnTerminate, listening } from "./control.ts";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

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
