/**
 * Where Redis is, from one address:
 *
 *     redis://[user:password@]host[:port][/db]                           one server; rediss:// over TLS
 *     redis+sentinel://[user:password@]host[:port],host[:port]/NAME[/db] the server that Sentinels call NAME
 *     redis+cluster://[user:password@]host[:port],host[:port]            Redis Cluster; rediss+… over TLS
 */

export interface RedisTarget {
  readonly kind: "single" | "sentinel" | "cluster";
  /** Servers, Sentinels, or some nodes of the cluster. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  readonly user: string;
  readonly password: string;
  readonly db: number;
  /** The Sentinels' name for the server; else "". */
  readonly name: string;
}

const shape = /^redis(s?)(\+sentinel|\+cluster)?:\/\/(?:([^\s/@]*)@)?([^\s/@?#]+)((?:\/[^\s/?#]*)*)$/;
const hostPattern = /^(\[[0-9a-fA-F:.%]+\]|[a-zA-Z0-9._-]+)(?::(\d{1,5}))?$/;
const ports = { single: 6379, cluster: 6379, sentinel: 26_379 } as const;
const dbMax = 1_000_000;

/** Undefined: the address has none of these forms. */
export function readRedisTarget(address: string): RedisTarget | undefined {
  const parts = shape.exec(address);
  if (parts === null) return undefined;
  const [, tls, mode, login = "", list = "", path = ""] = parts;
  const kind = mode === "+sentinel" ? "sentinel" : mode === "+cluster" ? "cluster" : "single";
  const hosts = readHosts(list, ports[kind]);
  const credentials = readLogin(login);
  const segments = path.split("/").slice(1);
  const name = kind === "sentinel" ? (segments.shift() ?? "") : "";
  const db = segments.length === 0 || segments[0] === "" ? 0 : readNumber(segments[0]!, dbMax);
  if (hosts === undefined || credentials === undefined || db === undefined || segments.length > 1) return undefined;
  if (kind === "single" && hosts.length > 1) return undefined;
  if (kind === "sentinel" && name === "") return undefined;
  // A cluster has one database.
  if (kind === "cluster" && db !== 0) return undefined;
  return { kind, hosts, tls: tls !== "", ...credentials, db, name };
}

/** The address without its password, for display. */
export function showRedisAddress(address: string): string {
  return address.replace(/^([a-z+]+:\/\/)([^/@]*)@/, (_, scheme: string, login: string) => {
    const [user = ""] = login.split(":");
    return login.includes(":") ? `${scheme}${user}:[hidden]@` : `${scheme}[hidden]@`;
  });
}

/** The address without credentials: hosts, name and database. */
export function redisServer(address: string): string {
  return address.replace(/^([a-z+]+:\/\/)[^/@]*@/, "$1");
}

function readHosts(list: string, port: number): RedisTarget["hosts"] | undefined {
  const hosts: { host: string; port: number }[] = [];
  for (const text of list.split(",")) {
    const [, host, given] = hostPattern.exec(text) ?? [];
    const found = given === undefined ? port : readNumber(given, 65_535);
    if (host === undefined || found === undefined || found === 0) return undefined;
    hosts.push({ host: host.replace(/^\[(.*)\]$/, "$1"), port: found });
  }
  return hosts;
}

/** `user:password`, `:password`, or nothing; either may be percent-encoded. */
function readLogin(login: string): { user: string; password: string } | undefined {
  const colon = login.indexOf(":");
  if (login !== "" && colon < 0) return undefined;
  try {
    return { user: decodeURIComponent(login.slice(0, Math.max(0, colon))), password: decodeURIComponent(login.slice(colon + 1)) };
  } catch {
    return undefined; // invalid percent-encoding
  }
}

function readNumber(text: string, max: number): number | undefined {
  return /^\d{1,7}$/.test(text) && Number(text) <= max ? Number(text) : undefined;
}
