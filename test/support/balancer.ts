/** A load balancer in this process, in front of nodes that say who they are: servers that answer, echo, or do as a test tells them. */
import { createServer, type Server } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import type { Test } from "tap";
import { resolveConfig, type GatewayOptions } from "../../src/config/config.ts";
import { createBalancer, type Balancer } from "../../src/lb/balancer.ts";

export async function startBalancer(t: Pick<Test, "teardown">, options: GatewayOptions): Promise<Balancer> {
  const balancer = await createBalancer(lbConfig(options));
  t.teardown(() => balancer.close());
  return balancer;
}

export function lbConfig(options: GatewayOptions) {
  return resolveConfig({ options: { port: 0, adminPort: 0, host: "127.0.0.1", logLevel: "silent", readyCheckMs: 50, ...options }, runner: "lb" }).config;
}

/** Answers every request with its name, and echoes what follows a request for /echo. */
export interface FakeNode {
  readonly id: string;
  readonly port: number;
  /** For the option nodes. */
  readonly listed: string;
  /** Connections of clients: checks of /ready are not counted. */
  readonly requests: string[];
  readonly sockets: Set<Socket>;
  status: number;
  /** Accepts, and says nothing. */
  silent: boolean;
  /** Nobody listens any more. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

export async function startFakeNode(t: Pick<Test, "teardown">, id: string): Promise<FakeNode> {
  let server: Server | null = null;
  let port = 0;
  const node: FakeNode = {
    id, requests: [], sockets: new Set(), status: 200, silent: false,
    get port() { return port; },
    get listed() { return `${id}=127.0.0.1:${port}`; },
    start: async () => {
      server = createServer((req, res) => {
        if (node.silent) return;
        if (req.url === "/ready") return void res.writeHead(node.status).end();
        node.requests.push(req.url ?? "");
        res.setHeader("X-Node", id);
        res.end(id);
      });
      server.on("upgrade", (req, socket: Socket, head) => {
        node.requests.push(req.url ?? "");
        socket.on("error", () => undefined);
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nX-Node: ${id}\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n`);
        socket.write(head);
        socket.on("end", () => socket.end());
        socket.pipe(socket, { end: false });
      });
      server.on("connection", (socket: Socket) => {
        node.sockets.add(socket);
        socket.once("close", () => node.sockets.delete(socket));
      });
      server.listen(port, "127.0.0.1", 1024);
      await once(server, "listening");
      port = (server.address() as AddressInfo).port;
    },
    stop: async () => {
      const old = server;
      if (old === null) return;
      server = null;
      old.closeAllConnections();
      for (const socket of node.sockets) socket.destroy();
      await new Promise((resolve) => old.close(resolve));
    },
  };
  await node.start();
  t.teardown(() => node.stop());
  return node;
}

export interface Raw {
  readonly socket: Socket;
  /** What has arrived. */
  text(): string;
  /** Resolves when the other side has closed it. */
  readonly closed: Promise<void>;
}

/** A connection that says only what it is told to. */
export async function openRaw(port: number, first: string | Buffer = ""): Promise<Raw> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  const chunks: Buffer[] = [];
  socket.on("error", () => undefined).on("data", (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()).once("end", () => resolve()));
  await once(socket, "connect");
  if (first.length > 0) socket.write(first);
  return { socket, text: () => Buffer.concat(chunks).toString("latin1"), closed };
}

export const upgradeTo = (url: string, headers = ""): string => `GET ${url} HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n${headers}\r\n`;

/** The node that answers a request of its own connection. */
export async function whoAnswers(port: number, url: string, headers = ""): Promise<string> {
  const { socket, text, closed } = await openRaw(port, `GET ${url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`);
  await closed;
  socket.destroy();
  return /^X-Node: (.*)\r$/m.exec(text())?.[1] ?? text().split("\r\n")[0]!;
}
