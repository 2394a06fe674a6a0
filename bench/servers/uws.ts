/** Control: bare uWebSockets.js, one App in one thread, with only the work that the load client needs. */
import uWS from "uWebSockets.js";
import { leaveOnTerminate, listening, published } from "./control.ts";

const app = uWS.App();
/** Queue bytes and idle timeout as in flux-gateway's defaults. */
const behavior = { maxBackpressure: 1024 * 1024, idleTimeout: 32, maxPayloadLength: 64 * 1024 };

app.ws("/room", {
  ...behavior,
  open: (ws) => void ws.subscribe("room"),
  message: (_ws, message, isBinary) => void app.publish("room", message, isBinary),
});
app.ws("/echo", { ...behavior, message: (ws, message, isBinary) => void ws.send(message, isBinary) });
/** As the control of node:http: reads the body, and answers 201 with a short text. */
app.post("/*", (response) => {
  const chunks: Buffer[] = [];
  response.onAborted(() => {});
  response.onData((chunk, isLast) => {
    chunks.push(Buffer.from(isLast ? chunk : chunk.slice(0)));
    if (!isLast) return;
    Buffer.concat(chunks).toString();
    response.cork(() => void response.writeStatus("201 Created").writeHeader("Content-Type", "application/json").end(published));
  });
});
app.get("/*", (response) => void response.end("hello"));
app.listen("127.0.0.1", 0, (socket) => {
  if (socket) listening(uWS.us_socket_local_port(socket));
});
leaveOnTerminate();
