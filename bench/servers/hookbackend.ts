/** The application's backend for the row of hooks: node:http, every question is allowed after 5 ms. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { leaveOnTerminate, listening } from "./control.ts";

const delayMs = 5;
const answer = '{"allow":true}';

const server = createServer((req, res) => {
  req.resume();
  req.on("end", () => setTimeout(() => res.writeHead(200, { "Content-Type": "application/json", "Content-Length": answer.length }).end(answer), delayMs));
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", 511, () => listening((server.address() as AddressInfo).port));
leaveOnTerminate();
