/** Control: node:http alone. It reads the body of each request and answers 201 with a short text. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { leaveOnTerminate, listening, published as answer } from "./control.ts";

const server = createServer((req, res) => {
  const chunks: Buffer[] = [];
  req.on("data", (chunk: Buffer) => chunks.push(chunk));
  req.on("end", () => {
    Buffer.concat(chunks).toString();
    res.writeHead(201, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(answer) }).end(answer);
  });
});

server.listen(0, "127.0.0.1", 511, () => listening((server.address() as AddressInfo).port));
leaveOnTerminate();
