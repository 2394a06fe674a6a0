/**
 * The dashboard, below `/dashboard` on the admin port: the page, its log-in, and what the page asks for. What programs
 * can do on this port and by the HTTP API, the page does by the same functions (`/dashboard/api/admin/…` and
 * `/dashboard/api/v1/…`): only how it proves who it is differs.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import type { ServeAdmin, ServeDashboard } from "../admin/admin.ts";
import type { Audit, Caller } from "../admin/audit.ts";
import { answer, Refused } from "../admin/request.ts";
import { permits, type ApiCaller, type ApiKeys } from "../auth/apikeys.ts";
import type { LookQuestion, NodeAnswer } from "../messages/messages.ts";
import { checkPage, pageHeaders } from "./door.ts";
import { pageFile } from "./files.ts";
import { loginMs, Logins, type Login } from "./logins.ts";
import { readPageCommand, type PagePath } from "./paths.ts";

export interface DashboardOptions {
  readonly node: string;
  readonly version: string;
  readonly keys: ApiKeys;
  /** Below /dashboard/api/. */
  readonly paths: Readonly<Record<string, PagePath>>;
  /** Serves a request to the HTTP API. */
  api(req: IncomingMessage, res: ServerResponse): void;
}

/** A node's dashboard, and what the node says of itself to those of others. */
export interface NodeDashboard {
  answer(question: LookQuestion): NodeAnswer | Promise<NodeAnswer | null>;
  readonly serve: ServeDashboard;
  stop(): void;
}

const root = "/dashboard";
const adminPaths = `${root}/api/admin/`;
const httpApi = `${root}/api/v1/`;
const ownPaths = `${root}/api/`;
const keyCharsMax = 1_024;

const asked = z.strictObject({ key: z.string().min(1).max(keyCharsMax) });

export class Dashboard {
  readonly #options: DashboardOptions;
  readonly #logins = new Logins();

  constructor(options: DashboardOptions) {
    this.#options = options;
  }

  /** @throws Refused */
  async serve(req: IncomingMessage, res: ServerResponse, caller: Caller, audit: Audit, serveAdmin: ServeAdmin): Promise<void> {
    for (const [name, value] of pageHeaders) res.setHeader(name, value);
    const { isOpen } = this.#options.keys;
    const { method, path } = caller;
    const file = pageFile(path);
    if (file !== null) allow(res, method, "GET", "HEAD");
    // A link from elsewhere may lead to the log-in. An open port must not be found by pages.
    if (file === null || isOpen) checkPage(req, isOpen);
    if (file !== null) {
      const isGzipped = /\bgzip\b/.test(String(req.headers["accept-encoding"] ?? ""));
      const bytes = isGzipped ? file.gzipped : file.bytes;
      return void res.writeHead(200, { "Content-Type": file.type, "Content-Length": bytes.length, Vary: "Accept-Encoding", ...(isGzipped && { "Content-Encoding": "gzip" }) }).end(bytes);
    }
    if (path === `${root}/login`) {
      allow(res, method, "POST");
      return this.#login(req, res, caller, audit);
    }
    const cookie = this.#cookieOf(req);
    const login: Login | null = isOpen ? { authorization: undefined } : cookie === "" ? null : this.#logins.find(cookie);
    const known = login && this.#callerOf(login);
    if (path === `${root}/logout`) {
      allow(res, method, "POST");
      if (known !== null && !isOpen) audit.done({ ...caller, ...keyOf(known) }, "logout", {}, {});
      this.#logins.end(cookie);
      res.setHeader("Set-Cookie", `${this.#nameOf(req)}=; HttpOnly; SameSite=Strict; Path=${root}; Max-Age=0`);
      return answer(res, 200, {});
    }
    if (login === null || known === null) throw new Refused(401, "unauthorized", "log in with the admin key or an API key of scope admin");
    const by = { ...caller, ...keyOf(known) };
    if (path === `${root}/session`) {
      const { node, version } = this.#options;
      return answer(res, 200, { node, version, open: isOpen, name: known.name });
    }
    if (path.startsWith(adminPaths)) return serveAdmin(asProgram(req, login, adminPaths, "/"), res, { ...by, path: `/${path.slice(adminPaths.length)}` });
    if (path.startsWith(httpApi)) return this.#options.api(asProgram(req, login, httpApi, "/api/v1/"), res);
    const name = path.startsWith(ownPaths) ? path.slice(ownPaths.length) : "";
    const own = Object.hasOwn(this.#options.paths, name) ? this.#options.paths[name] : undefined;
    if (own === undefined) throw new Refused(404, "not_found", "unknown path of the dashboard");
    allow(res, method, "GET", "HEAD");
    answer(res, 200, await own(new URLSearchParams((req.url ?? "").split("?").slice(1).join("?")), by, audit));
  }

  async #login(req: IncomingMessage, res: ServerResponse, caller: Caller, audit: Audit): Promise<void> {
    const { keys } = this.#options;
    // Without TLS in front of the port, a browser would not send a Secure cookie. Read first: reading the body takes the header away.
    const secure = req.headers.origin?.startsWith("https:") === true ? "; Secure" : "";
    const { key } = await readPageCommand(req, asked);
    const waitMs = this.#logins.attempt(caller.from);
    if (waitMs > 0) {
      res.setHeader("Retry-After", Math.ceil(waitMs / 1_000));
      throw new Refused(429, "rate_limited", `too many wrong keys from your address: wait ${Math.ceil(waitMs / 1_000)} s`);
    }
    const authorization = `Bearer ${key}`;
    const known = this.#callerOf({ authorization });
    if (known === null) throw new Refused(401, "unauthorized", "the key is not the admin key of this node, nor an API key of scope admin for all tenants and rooms");
    this.#logins.succeeded(caller.from);
    const value = this.#logins.open(authorization);
    res.setHeader("Set-Cookie", `${this.#nameOf(req)}=${value}; HttpOnly; SameSite=Strict; Path=${root}; Max-Age=${loginMs / 1_000}${secure}`);
    audit.done({ ...caller, ...keyOf(known) }, "login", {}, {});
    answer(res, 200, { name: known.name, open: keys.isOpen });
  }

  /** Null: the credential does not open the dashboard, or not any more. */
  #callerOf({ authorization }: Login): ApiCaller | null {
    const found = this.#options.keys.authenticate(authorization);
    if (found instanceof Promise) {
      // A JWT: it is checked elsewhere, and is no key.
      found.catch(() => undefined);
      return null;
    }
    if ("refused" in found || !["key", "admin", "open"].includes(found.kind)) return null;
    return permits(found, "admin") === null && found.tenant === null && found.rooms === null ? found : null;
  }

  /** Browsers do not tell ports of one host apart: nodes on one machine must not take each other's cookies. */
  #nameOf(req: IncomingMessage): string {
    return `flux_dashboard_${req.socket.localPort ?? 0}`;
  }

  #cookieOf(req: IncomingMessage): string {
    const name = `${this.#nameOf(req)}=`;
    return req.headers.cookie?.split("; ").find((one) => one.startsWith(name))?.slice(name.length) ?? "";
  }
}

/** For the audit: of the admin key the id, as everywhere. */
function keyOf({ kind, name }: ApiCaller): Pick<Caller, "key"> {
  return kind === "key" ? { key: name } : {};
}

/** The page was checked: from here on the request is one that its user could send with any program. */
function asProgram(req: IncomingMessage, { authorization }: Login, below: string, target: string): IncomingMessage {
  req.url = target + (req.url ?? "").slice(below.length);
  const { headers } = req;
  delete headers.origin;
  delete headers.cookie;
  delete headers["sec-fetch-site"];
  delete headers.authorization;
  if (authorization !== undefined) headers.authorization = authorization;
  return req;
}

function allow(res: ServerResponse, method: string, ...methods: readonly string[]): void {
  if (methods.includes(method)) return;
  res.setHeader("Allow", methods.join(", "));
  throw new Refused(405, "method_not_allowed", `only ${methods.join(", ")}`);
}
