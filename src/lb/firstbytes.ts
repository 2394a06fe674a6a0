/**
 * Finds the user in the first bytes of a connection: in the request line, or in its Authorization header. Nothing is
 * verified here. The node does that, and a client that names another user only chooses another node.
 */
import { peekPlace, userTag } from "../auth/placetickets.ts";

/** What the first request says about the node. */
export interface Hint {
  /** From `node=`; "" where it names none. */
  readonly node: string;
  /** From a ticket, as tickets name nodes; 0 where there is none. */
  readonly tag: number;
  /** Hash of the user, or of the client's address where no user is named. */
  readonly hash: number;
}

/** more: the request is not complete enough. other: it is no HTTP request, and says nothing. */
export type FirstBytes = { readonly kind: "more" } | { readonly kind: "other" } | { readonly kind: "http"; readonly named: Named };

export interface Named {
  readonly node: string;
  readonly tag: number;
  /** Null: no user is named. */
  readonly hash: number | null;
}

const methods = ["GET ", "HEAD ", "POST ", "PUT ", "OPTIONS ", "DELETE ", "PATCH "];
const longestMethod = 8;
const nobody: Named = { node: "", tag: 0, hash: null };
const more: FirstBytes = { kind: "more" };
const tokenCharsMax = 8192;

/** Reads what has arrived so far. It searches only new bytes for ends of lines, so a client that sends byte by byte costs little. */
export class FirstRequest {
  #lineEnd = -1;
  #searched = 0;

  read(bytes: Buffer): FirstBytes {
    if (!beginsLikeHttp(bytes)) return { kind: "other" };
    if (this.#lineEnd < 0) {
      this.#lineEnd = bytes.indexOf("\n", this.#searched);
      this.#searched = bytes.length;
      if (this.#lineEnd < 0) return more;
      const named = namedInQuery(bytes.toString("latin1", 0, this.#lineEnd));
      if (named !== nobody) return { kind: "http", named };
      this.#searched = this.#lineEnd;
    }
    const end = bytes.indexOf("\r\n\r\n", Math.max(0, this.#searched - 4));
    this.#searched = bytes.length;
    if (end < 0) return more;
    const token = /\nauthorization:[ \t]*bearer[ \t]+(\S+)/i.exec(bytes.toString("latin1", this.#lineEnd, end))?.[1] ?? "";
    const hash = hashOfToken(token);
    return { kind: "http", named: hash === null ? nobody : { ...nobody, hash } };
  }
}

/** One byte may be enough to know that it is none: a TLS handshake, a PROXY header, or a frame of raw TCP. */
function beginsLikeHttp(bytes: Buffer): boolean {
  const start = bytes.toString("latin1", 0, longestMethod);
  return methods.some((method) => (start.length < method.length ? method.startsWith(start) : start.startsWith(method)));
}

function namedInQuery(line: string): Named {
  const from = line.indexOf("?");
  if (from < 0) return nobody;
  const to = line.indexOf(" ", from);
  const given = { node: "", ticket: "", user: "", tenant: "", token: "" };
  for (const part of line.slice(from + 1, to < 0 ? line.length : to).split("&")) {
    const equals = part.indexOf("=");
    const name = part.slice(0, equals);
    // The first counts, as in haproxy and in a node.
    if (equals >= 0 && name in given && given[name as keyof typeof given] === "") given[name as keyof typeof given] = decoded(part.slice(equals + 1));
  }
  const { node, ticket, user, tenant, token } = given;
  const place = ticket === "" ? null : peekPlace(ticket);
  const hash = user !== "" ? userTag(tenant, user) : place !== null && place.user !== 0 ? place.user : hashOfToken(token);
  return node === "" && place === null && hash === null ? nobody : { node, tag: place?.node ?? 0, hash };
}

/** As forms, nodes and `url_dec(1)` of haproxy decode it: a plus is a space. What is malformed stays as it is. */
function decoded(value: string): string {
  if (!value.includes("%") && !value.includes("+")) return value;
  try {
    return decodeURIComponent(value.replaceAll("+", " "));
  } catch {
    return value;
  }
}

/** Null: it is no token, or names no user. */
function hashOfToken(token: string): number | null {
  const payload = token.split(".")[1];
  if (payload === undefined || token.length > tokenCharsMax) return null;
  try {
    const { sub, tenant = "" } = JSON.parse(Buffer.from(payload, "base64url").toString()) as { sub?: unknown; tenant?: unknown };
    return typeof sub === "string" && typeof tenant === "string" ? userTag(tenant, sub) : null;
  } catch {
    return null;
  }
}
