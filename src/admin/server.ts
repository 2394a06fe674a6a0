/** An HTTP server of the main thread, bounded: in connections, of all and of each address, and in the time that a request takes to arrive. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { refuse, Refused } from "./request.ts";

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface Listening {
  readonly host: string;
  readonly port: number;
}

export type OnRequest = (req: IncomingMessage, res: ServerResponse) => void;

export interface Bounds {
  /** They use file descriptors that the port for clients needs. */
  readonly connectionsMax: number;
  /** Per address: a client that opens connections and sends nothing must not lock out all others. */
  readonly connectionsOfOneMax: number;
  /** How long a connection may stay open without a request. */
  readonly keepAliveMs: number;
  /** How long a request may take to arrive, and how often Node checks that. */
  readonly headersMs: number;
  readonly requestMs: number;
  readonly lookMs: number;
}

const times = { headersMs: 10_000, requestMs: 30_000, lookMs: 5_000 };

/** A port for operators. */
export const adminBounds: Bounds = { connectionsMax: 64, connectionsOfOneMax: 32, keepAliveMs: 5_000, ...times };
/** A port with the HTTP API: backends keep pools of connections, longer than the minute that most of them wait between two requests. */
export const apiBounds: Bounds = { connectionsMax: 1_024, connectionsOfOneMax: 512, keepAliveMs: 75_000, ...times };

export interface ServerOptions {
  /** For the log. */
  readonly name: string;
  readonly bounds: Bounds;
  readonly log: Logger;
}

/** @throws the error of `listen`, with its `code`. */
export async function startServer({ host, port }: Listening, { name, bounds, log }: ServerOptions, onRequest: OnRequest): Promise<HttpServer> {
  const { headersMs: headersTimeout, requestMs: requestTimeout, lookMs: connectionsCheckingInterval, keepAliveMs: keepAliveTimeout } = bounds;
  const refused = new WeakSet<Socket>();
  const server = createServer({ headersTimeout, requestTimeout, connectionsCheckingInterval, keepAliveTimeout }, (req, res) => {
    if (refused.has(req.socket)) return;
    const problem = framingProblem(req);
    if (problem !== null) {
      // Node has read what is behind it in the same packet, and gives it to this function.
      refused.add(req.socket);
      return refuse(res, new Refused(400, "bad_request", problem));
    }
    if (res.socket === null) tellOfEnd(req, res);
    onRequest(req, res);
  });
  server.maxConnections = bounds.connectionsMax;
  boundEach(server, bounds.connectionsOfOneMax);
  await listening(server, host, port);
  const unaccepted = new Sparse();
  server.on("error", (error) => {
    const unsaid = unaccepted.due("accept");
    if (unsaid !== null) log.warn({ err: error, ...(unsaid > 0 && { unsaid }) }, `${name}: accepting a connection failed, maybe at the limit of open files (ulimit -n)`);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * Node refuses most requests whose end is not certain. It lets these pass: an empty Transfer-Encoding, another encoding
 * in front of chunks, and a second Host. A proxy in front may take another end or host for the right one.
 */
function framingProblem({ headers, rawHeaders }: IncomingMessage): string | null {
  const encoding = headers["transfer-encoding"];
  if (encoding !== undefined && encoding.toLowerCase() !== "chunked") return "transfer-encoding: must be chunked";
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.length === 4 && rawHeaders[i]!.toLowerCase() === "host") hosts++;
  return hosts > 1 ? "host: stands twice" : null;
}

/**
 * Node tells a response that waits behind another one of its connection nothing of the connection's end. What the
 * request holds would be held for ever.
 */
function tellOfEnd(req: IncomingMessage, res: ServerResponse): void {
  req.once("close", () => {
    if (!req.socket.destroyed || res.closed) return;
    res.destroy();
    res.emit("close");
  });
}

function boundEach(server: Server, max: number): void {
  const open = new Map<string, number>();
  server.on("connection", (socket) => {
    const address = socket.remoteAddress ?? "";
    const count = (open.get(address) ?? 0) + 1;
    if (count > max) return void socket.destroy();
    open.set(address, count);
    socket.once("close", () => {
      const left = open.get(address)! - 1;
      if (left > 0) open.set(address, left);
      else open.delete(address);
    });
  });
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
