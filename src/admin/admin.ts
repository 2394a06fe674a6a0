/**
 * The admin port: metrics, slow sessions, the nodes and their settings, surveys, disconnecting users, and draining. The
 * main thread serves it on a port of its own. It listens on loopback and is open to this machine, or requires a key. Every answer is JSON,
 * except the metrics.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import type { Logger } from "../platform/log/log.ts";
import { Audit, type Caller } from "./audit.ts";
import { serveDisconnect, type Disconnect } from "./disconnect.ts";
import { serveDrain, type Drains } from "./drain.ts";
import { strangeHost, strangePage } from "./host.ts";
import { keyCheck } from "./key.ts";
import { servePlacement, type Placements } from "./placement.ts";
import { answer, refuse, Refused, send } from "./request.ts";
import { Routes, type Serve } from "./routes.ts";
import { adminBounds, apiBounds, startServer, type HttpServer, type Listening, type OnRequest } from "./server.ts";
import { serveSettings, type Settings } from "./settings.ts";
import { serveSurvey, type Ask } from "./survey.ts";
import { serveFailed, serveReplay, type WebhookControl } from "./webhooks.ts";

export type Admin = HttpServer;

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
  readonly placements: Placements;
  readonly settings: Settings;
  /** Null: no endpoint is configured. */
  readonly webhooks: WebhookControl | null;
  /** Serves what is below `/dashboard`, and passes requests of its page on to the paths of this port. */
  readonly dashboard?: ServeDashboard | undefined;
  /** Serves the paths below `/api/`. Absent: the HTTP API has a port of its own. */
  readonly api?: OnRequest | undefined;
}

/** Serves a request to a path of this port, whose caller is known. @throws Refused */
export type ServeAdmin = (req: IncomingMessage, res: ServerResponse, caller: Caller) => Promise<void>;
/** May throw or reject with Refused. */
export type ServeDashboard = (req: IncomingMessage, res: ServerResponse, caller: Caller, audit: Audit, serveAdmin: ServeAdmin) => Promise<void>;

/** @throws the error of `listen`, with its `code`. */
export async function startAdmin(options: AdminOptions, served: Served): Promise<Admin> {
  const audit = new Audit(options.log, options.key);
  return guarded(options, routesOf(served, audit), audit, served.api ?? null, served.dashboard);
}

/** Paths of a process that is no node, and its metrics, on a port like a node's. @throws the error of `listen`, with its `code`. */
export async function startOwnAdmin(options: AdminOptions, name: string, metrics: Served["metrics"], paths: Readonly<Record<string, () => { status: number; value: object }>>): Promise<Admin> {
  const routes: Routes = new Routes()
    .add("GET", "/", (_, res) => answer(res, 200, { name, paths: routes.paths }))
    .add("GET", "/metrics", serveMetrics(metrics));
  for (const [path, read] of Object.entries(paths)) {
    routes.add("GET", path, (_, res) => {
      const { status, value } = read();
      answer(res, status, value);
    });
  }
  return guarded(options, routes, new Audit(options.log, options.key), null);
}

function guarded({ host, port, key, log }: AdminOptions, routes: Routes, audit: Audit, api: OnRequest | null, dashboard?: ServeDashboard): Promise<Admin> {
  const hasKey = key === "" ? null : keyCheck(key);
  const door: Door = (req) => {
    if (hasKey !== null && !hasKey(req.headers.authorization)) {
      throw new Refused(401, "unauthorized", "Authorization: must be Bearer and the admin key of this node (--admin-key, FLUX_ADMIN_KEY)");
    }
    // Without a key, a web page could name another host that points to this machine. Only its own loopback names pass.
    const strange = hasKey === null ? (strangeHost(req.headers, req.socket.localAddress ?? "") ?? strangePage(req.headers)) : null;
    if (strange !== null) throw new Refused(403, "forbidden", strange);
  };
  return listen({ host, port }, { routes, door, audit, log, api, dashboard: dashboard && ((req, res, caller, serveAdmin) => dashboard(req, res, caller, audit, serveAdmin)) });
}

/** Serves only the metrics, without a key. */
export function startMetrics(listening: Listening, metrics: Served["metrics"], log: Logger): Promise<Admin> {
  const routes = new Routes().add("GET", "/metrics", serveMetrics(sharedFor(metricsFreshMs, metrics)));
  return listen(listening, { routes, door: () => {}, audit: null, log, api: null });
}

function routesOf({ metrics, slow, nodes, survey, placements, settings, webhooks, disconnect, drains, dashboard }: Served, audit: Audit): Routes {
  const routes: Routes = new Routes()
    .add("GET", "/", (_, res) => answer(res, 200, { name: "flux-gateway admin", paths: routes.paths }))
    .add("GET", "/metrics", serveMetrics(metrics))
    .add("GET", "/slow", (_, res) => answer(res, 200, { sessions: slow() }))
    .add("GET", "/nodes", (_, res) => answer(res, 200, nodes()))
    .add("GET", "/survey", (req, res) => serveSurvey(req, res, survey))
    .add("GET", "/placement", (req, res) => servePlacement(req, res, placements))
    .add("GET", "/settings", (_, res) => answer(res, 200, settings.own))
    .add("POST", "/settings", (req, res, caller) => serveSettings(req, res, settings, caller, audit))
    .add("GET", "/webhooks", (req, res) => serveFailed(req, res, webhooks))
    .add("POST", "/webhooks", (req, res, caller) => serveReplay(req, res, webhooks, caller, audit))
    .add("POST", "/disconnect", (req, res, caller) => serveDisconnect(req, res, disconnect, caller, audit))
    .add("GET", "/drain", (_, res) => answer(res, 200, drains.progress()))
    .add("POST", "/drain", (req, res, caller) => serveDrain(req, res, drains, caller, audit));
  // Listed here only: its requests come in by a door of their own.
  if (dashboard !== undefined) routes.add("GET", dashboardPath, () => {});
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
  /** The HTTP API, with a door of its own; null: this port has none. */
  readonly api: OnRequest | null;
  /** Has a door of its own, too. */
  readonly dashboard?: ((req: IncomingMessage, res: ServerResponse, caller: Caller, serveAdmin: ServeAdmin) => Promise<void>) | undefined;
}

function listen(listening: Listening, { routes, door, audit, log, api, dashboard }: Serving): Promise<Admin> {
  const serveKnown: ServeAdmin = async (req, res, caller) => {
    const { serve, parameters } = routes.find(caller.method, req.url ?? "", res);
    await serve(req, res, caller, parameters);
  };
  const respond = async (req: IncomingMessage, res: ServerResponse, caller: Caller): Promise<void> => {
    if (dashboard !== undefined && isDashboard(caller.path)) return dashboard(req, res, caller, serveKnown);
    if (dashboard !== undefined && wantsPage(req)) return void res.writeHead(302, { Location: dashboardPath, "Cache-Control": "no-store" }).end();
    door(req);
    await serveKnown(req, res, caller);
  };
  const onRequest: OnRequest = (req, res) => {
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
  };
  if (api === null) return startServer(listening, { name: "admin port", bounds: adminBounds, log }, onRequest);
  return startServer(listening, { name: "admin port", bounds: apiBounds, log }, (req, res) => (isApi(req) ? api : onRequest)(req, res));
}

function isApi({ url = "" }: IncomingMessage): boolean {
  return url.startsWith("/api/");
}

const dashboardPath = "/dashboard";

function isDashboard(path: string): boolean {
  return path === dashboardPath || path.startsWith(`${dashboardPath}/`);
}

/** A person with a browser means the page, and programs mean the list of paths. */
function wantsPage({ method, url, headers }: IncomingMessage): boolean {
  return method === "GET" && url === "/" && headers.accept?.includes("text/html") === true;
}

const pathMax = 64;
