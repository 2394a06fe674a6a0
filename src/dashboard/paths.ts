/** What the page asks of this node alone: how the cluster is, and details that no other interface has. */
import type { IncomingMessage } from "node:http";
import type * as z from "zod";
import type { Audit, Caller } from "../admin/audit.ts";
import { tenantShape, userShape, roomShape } from "../admin/names.ts";
import { problemOf } from "../admin/problem.ts";
import { readCommand, Refused } from "../admin/request.ts";
import { isAbout } from "./answers.ts";
import type { Cluster } from "./cluster.ts";
import type { RoomTraces } from "./roomtraces.ts";

/** The value is the answer's JSON. @throws Refused */
export type PagePath = (query: URLSearchParams, caller: Caller, audit: Audit) => object | Promise<object>;

export interface PathParts {
  readonly cluster: Cluster;
  readonly roomTraces: RoomTraces;
  /** The newest direct messages of a user. */
  inbox(tenant: string, user: string): Promise<object>;
}

/** By the path below /dashboard/api/. */
export function pagePaths({ cluster, roomTraces, inbox }: PathParts): Readonly<Record<string, PagePath>> {
  const askers = new Askers();
  return {
    live: () => cluster.now(),
    about(query) {
      const what = query.get("what") ?? "";
      if (!isAbout(what) || what === "trace") throw new Refused(400, "bad_request", "what: is unknown");
      return cluster.about(what);
    },
    "trace-user"(query, caller, audit) {
      const [user, tenant, after] = [named(userShape, query.get("user")), named(tenantShape, query.get("tenant") ?? ""), numberIn(query, "after")];
      // The page asks again and again, until its user has seen enough.
      if (askers.begin(caller, `u${tenant}\n${user}`) || after === 0) audit.done(caller, "trace", { user, tenant }, {});
      return cluster.about("trace", { user, tenant, after });
    },
    "trace-room"(query, caller, audit) {
      const [room, tenant, after] = [named(roomShape, query.get("room")), named(tenantShape, query.get("tenant") ?? ""), numberIn(query, "after")];
      if (askers.begin(caller, `r${tenant}\n${room}`) || after === 0) audit.done(caller, "trace", { room, tenant }, {});
      return roomTraces.read(tenant, room, after);
    },
    async inbox(query, caller, audit) {
      const [user, tenant] = [named(userShape, query.get("user")), named(tenantShape, query.get("tenant") ?? "")];
      audit.done(caller, "read inbox", { user, tenant }, {});
      return inbox(tenant, user);
    },
  };
}

/** Reads the body of a page whose origin was checked. @throws Refused */
export function readPageCommand<T>(req: IncomingMessage, shape: z.ZodType<T>): Promise<T> {
  delete req.headers.origin;
  delete req.headers["sec-fetch-site"];
  return readCommand(req, shape);
}

function named(shape: z.ZodType<string>, value: string | null): string {
  const { success, data, error } = shape.safeParse(value ?? undefined);
  if (!success) throw new Refused(400, "bad_request", problemOf(error, "query"));
  return data;
}

function numberIn(query: URLSearchParams, name: string): number {
  const value = Number(query.get(name) ?? 0);
  return Number.isSafeInteger(value) && value >= 0 ? value : 0;
}

const askersMax = 256;
const askedMs = 60_000;

/** Who asks for a trace. A caller who says that it has some of it already must be in the log all the same. */
class Askers {
  readonly #askedAt = new Map<string, number>();

  /** Whether the caller has not asked for this lately. */
  begin({ from, key = "" }: Caller, of: string): boolean {
    const name = `${from} ${key} ${of}`;
    const now = performance.now();
    const before = this.#askedAt.get(name) ?? -Infinity;
    this.#askedAt.delete(name);
    if (this.#askedAt.size >= askersMax) this.#askedAt.delete(this.#askedAt.keys().next().value!);
    this.#askedAt.set(name, now);
    return now - before > askedMs;
  }
}
