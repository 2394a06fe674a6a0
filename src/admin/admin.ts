/**
 * The admin port: metrics, slow sessions, the nodes, surveys, disconnecting users, and draining. The main thread serves
 * it on a port of its own. It listens on loopback and is open to this machine, or requires a key. Every answer is JSON,
 * except the metrics.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import type { Logger } from "../platform/log/log.ts";
import { Audit, type Caller } from "./audit.ts";
import { serveDisconnect, type Disconnect } from "./disconnect.ts";
import { serveDrain, type Drains } from "./drain.ts";
import { strangeHost, strangePage } from "./host.ts";
import { keyCheck } from "./key.ts";
import { answer, refuse, Refused, send } from "./request.ts";
import { Routes, type Serve } from "./routes.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { serveSurvey, type Ask } from "./survey.ts";

export interface Admin {
  readonly port: number;
  close(): Promise<void>;
}

export interface Listening {
  readonly host: string;
  readonly port: number;
}

export interface AdminOptions extends Listening {
  /** Required from every request; empty: none. */
  readonly key: string;
  readonly log: Logger;
}

/** The functions behind the paths. */
export interface Served {
  readonly metrics: Pick<Registry, "metrics" | "contentType">;
  readonly slow: () => unknown;
  readonly disconnect: Disconnect;
  readonly drains: Drains;
  /** All nodes of the gateway, as this one knows them. */
  readonly nodes: () => object;
  readonly survey: Ask;
}

/** Maximum connections. They use file descriptors that the port for clients needs. */
const connectionsMax = 64;
/** Per address: a client that opens connections and sends nothing must not lock out all others. */
const connectionsOfOneMax = 32;
/** How long a request may take to arrive, and how often Node checks that. */
const headersMs = 10_000;
const requestMs = 30_000;
const lookMs = 5_000;

/** @throws the error of `listen`, with its `code`. */
export async function startAdmin({ host, port, key, log }: AdminOptions, served: Served): Promise<Admin> {
  const audit = new Audit(log, key);
  const hasKey = key === "" ? null : keyCheck(key);
  const routes = routesOf(served, audit);
  const door: Door = (req) => {
    if (hasKey !== null && !hasKey(req.headers.authorization)) {
      throw new Refused(401, "unauthorized", "Authorization: must be Bearer and the admin key of this node (--admin-key, FLUX_ADMIN_KEY)");
    }
    // Without a key, a web page could name another host that points to this machine. Only its own loopback names pass.
    const strange = hasKey === null ? (strangeHost(req) ?? strangePage(req)) : null;
    if (strange !== null) throw new Refused(403, "forbidden", strange);
  };
  return listen({ host, port }, { routes, door, audit, log });
}

/** Serves only the metrics, without a key. */
export function startMetrics(listening: Listening, metrics: Served["metrics"], log: Logger): Promise<Admin> {
  const routes = new Routes().add("GET", "/metrics", serveMetrics(sharedFor(metricsFreshMs, metrics)));
  return listen(listening, { routes, door: () => {}, audit: null, log });
}

function routesOf({ metrics, slow, nodes, survey, disconnect, drains }: Served, audit: Audit): Routes {
  const routes: Routes = new Routes()
    .add("GET", "/", (_, res) => answer(res, 200, { name: "flux-gateway admin", paths: routes.paths }))
    .add("GET", "/metrics", serveMetrics(metrics))
    .add("GET", "/slow", (_, res) => answer(res, 200, { sessions: slow() }))
    .add("GET", "/nodes", (_, res) => answer(res, 200, nodes()))
    .add("GET", "/survey", (req, res) => serveSurvey(req, res, survey))
    .add("POST", "/disconnect", (req, res, caller) => serveDisconnect(req, res, disconnect, caller, audit))
    .add("GET", "/drain", (_, res) => answer(res, 200, drains.progress()))
    .add("POST", "/drain", (req, res, caller) => serveDrain(req, res, drains, caller, audit));
  return routes;
}

function serveMetrics(metrics: Served["metrics"]): Serve {
  return async (_, res) => {
    const text = await metrics.metrics();
    send(res, 200, metrics.contentType, text);
  };
}

const metricsFreshMs = 500;

/**
 * Requests need no key, and making the text takes the main thread milliseconds. So it is made at most once in this
 * time.
 */
function sharedFor(ms: number, metrics: Served["metrics"]): Served["metrics"] {
  let made: { readonly at: number; readonly text: Promise<string> } | null = null;
  return {
    contentType: metrics.contentType,
    metrics: () => {
      const now = performance.now();
      if (made === null || now - made.at >= ms) made = { at: now, text: metrics.metrics() };
      return made.text;
    },
  };
}

/** Checks a request before it is served. @throws Refused */
type Door = (req: IncomingMessage) => void;

interface Serving {
  readonly routes: Routes;
  readonly door: Door;
  /** Logs refused requests; null: no log. */
  readonly audit: Audit | null;
  readonly log: Logger;
}

async function listen({ host, port }: Listening, { routes, door, audit, log }: Serving): Promise<Admin> {
  const respond = async (req: IncomingMessage, res: ServerResponse, caller: Caller): Promise<void> => {
    door(req);
    const { serve, parameters } = routes.find(caller.method, req.url ?? "", res);
    await serve(req, res, caller, parameters);
  };
  const server = createServer({ headersTimeout: headersMs, requestTimeout: requestMs, connectionsCheckingInterval: lookMs }, (req, res) => {
    const caller = { from: req.socket.remoteAddress ?? "unknown", method: req.method ?? "", path: (req.url ?? "").split("?")[0]!.slice(0, pathMax) };
    // The client has disconnected, or an answer was sent twice: it concerns this response alone.
    res.on("error", () => res.destroy());
    const failed = (error: unknown) => {
      if (!(error instanceof Refused)) log.error({ err: error, path: caller.path }, "admin port: a request failed and got 500");
      const refused = error instanceof Refused ? error : new Refused(500, "internal", "the request failed: the log of the node says why");
      if (res.headersSent) return res.destroy();
      if (refused.status === 401) res.setHeader("WWW-Authenticate", "Bearer");
      refuse(res, refused);
      if (req.method === "POST" || [401, 403, 500].includes(refused.status)) audit?.refused(caller, refused.code, refused.message);
    };
    respond(req, res, caller).catch(failed).catch((error: unknown) => {
      log.error({ err: error, path: caller.path }, "admin port: a request failed and its connection was dropped");
      res.destroy();
    });
  });
  server.maxConnections = connectionsMax;
  boundEach(server);
  await listening(server, host, port);
  const unaccepted = new Sparse();
  server.on("error", (error) => {
    const unsaid = unaccepted.due("accept");
    if (unsaid !== null) log.warn({ err: error, ...(unsaid > 0 && { unsaid }) }, "admin port: accepting a connection failed, maybe at the limit of open files (ulimit -n)");
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

const pathMax = 64;

function boundEach(server: Server): void {
  const open = new Map<string, number>();
  server.on("connection", (socket) => {
    const address = socket.remoteAddress ?? "";
    const count = (open.get(address) ?? 0) + 1;
    if (count > connectionsOfOneMax) return void socket.destroy();
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
