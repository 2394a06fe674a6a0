/**
 * Maps a method and a path to its function; HEAD is served as GET. Uses `find-my-way`, the router of Fastify. It
 * decodes parameters (a room may be named `a/b` or `a:b`), and touches neither request nor body.
 *
 * Why not others: `hono` has its own requests, answers and bodies. `rou3` leaves parameters encoded, takes "/drain/"
 * for "/drain" and follows ".." in a path.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import FindMyWay from "find-my-way";
import type { Caller } from "./audit.ts";
import { Refused } from "./request.ts";

/** The values of a path's `:name` parameters. */
export type Parameters = Readonly<Record<string, string | undefined>>;
export type Serve = (req: IncomingMessage, res: ServerResponse, caller: Caller, parameters: Parameters) => Promise<void> | void;

const methods = ["GET", "POST", "PUT", "DELETE"] as const;
type Method = (typeof methods)[number];

/** Bytes of one parameter: the longest name, with every byte of it written as %XX. */
const parameterBytesMax = 3 * 1_024;

export class Routes {
  readonly #router = FindMyWay({ maxParamLength: parameterBytesMax });
  readonly #paths = new Set<string>();

  /** All served paths, in the order they were added. */
  get paths(): string[] {
    return [...this.#paths];
  }

  add(method: Method, path: string, serve: Serve): this {
    this.#router.on(method, path, () => undefined, serve);
    this.#paths.add(path);
    return this;
  }

  /**
   * @param url as in the request
   * @throws Refused, after setting `Allow` where the path has other methods.
   */
  find(method: string, url: string, res: ServerResponse): { serve: Serve; parameters: Parameters } {
    const [path = ""] = url.split("?");
    const found = this.#find(method === "HEAD" ? "GET" : method, path);
    if (found !== null) return found;
    const allowed = methods.filter((one) => this.#find(one, path) !== null).flatMap((one) => (one === "GET" ? ["GET", "HEAD"] : [one]));
    if (allowed.length === 0) throw new Refused(404, "not_found", `unknown path ${JSON.stringify(path.slice(0, shownMax))}: this port has ${this.paths.join(", ")}`);
    res.setHeader("Allow", allowed.join(", "));
    throw new Refused(405, "method_not_allowed", `only ${allowed.join(", ")}`);
  }

  #find(method: string, path: string): { serve: Serve; parameters: Parameters } | null {
    const found = this.#router.find(method as Method, path);
    // For "/rooms/" the router would give a room without a name.
    if (found === null || Object.values(found.params).includes("")) return null;
    return { serve: found.store as Serve, parameters: found.params };
  }
}

const shownMax = 64;
