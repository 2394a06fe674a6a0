/**
 * Which requests an entrance lets in, besides their credential. Browsers send requests for any page: what they say of
 * the page decides.
 */
import { strangeHost, strangePage } from "../admin/host.ts";
import type { ApiCaller } from "../auth/apikeys.ts";
import type { Config } from "../config/config.ts";
import { isAmong } from "../config/reach.ts";
import { refusal, type Refusal } from "../protocol/problems.ts";
import { isWelcome } from "../reactor/transport/origin.ts";
import type { ApiCall } from "./call.ts";
import { headerOf, type Exchange } from "./exchange/exchange.ts";

export interface DoorOptions {
  /** The port for clients, where every request needs a credential of its own. */
  readonly isPublic: boolean;
  readonly config: Pick<Config, "allowedOrigins" | "host">;
}

const ownHostsMax = 64;

export class Door {
  readonly isPublic: boolean;
  readonly #config: DoorOptions["config"];
  /** Names of this machine in requests, each with the address that the request reached; and the last of them. */
  readonly #ownHosts = new Set<string>();
  #last: { readonly host: string; readonly localAddress: string } | null = null;

  constructor({ isPublic, config }: DoorOptions) {
    this.isPublic = isPublic;
    this.#config = config;
  }

  /** Null: it may come in. */
  refuses(exchange: Exchange, call: ApiCall, { kind }: ApiCaller): Refusal | null {
    if (kind === "token") return this.#welcomes(exchange) ? null : refusal("forbidden", "Origin: pages of this origin may not connect: it is not in allowedOrigins");
    const strange = kind === "open" ? this.strange(exchange) : null;
    return strange ?? this.#pageOrForm(exchange, call);
  }

  /** Without a key, a web page could name another host that points to this machine. Only its own loopback names pass. */
  strange({ headers, localAddress }: Exchange): Refusal | null {
    if (headers.origin !== undefined) return refusal("forbidden", "web pages may not send this: the request has an Origin header");
    const text = strangePage(headers) ?? this.#strangeHost(headers, localAddress);
    return text === null ? null : refusal("forbidden", text);
  }

  /** Parsing addresses costs more than all the rest of a publish. */
  #strangeHost(headers: Exchange["headers"], localAddress: string): string | null {
    const host = String(headers.host);
    if (host === this.#last?.host && localAddress === this.#last.localAddress) return null;
    const known = `${host} ${localAddress}`;
    const text = this.#ownHosts.has(known) ? null : strangeHost(headers, localAddress);
    if (text !== null) return text;
    if (this.#ownHosts.size >= ownHostsMax) this.#ownHosts.clear();
    this.#ownHosts.add(known);
    this.#last = { host, localAddress };
    return null;
  }

  /** Headers that let the page read the answer. A page has the token of its user, never a key. */
  forPage(exchange: Exchange): readonly string[] {
    const origin = headerOf(exchange, "origin");
    return origin !== undefined && this.#welcomes(exchange) ? ["Access-Control-Allow-Origin", origin, "Vary", "Origin"] : [];
  }

  #welcomes(exchange: Exchange): boolean {
    const origin = headerOf(exchange, "origin") ?? "";
    if (this.isPublic) return isWelcome(this.#config, origin, headerOf(exchange, "host") ?? "");
    return origin === "" || isAmong(this.#config.allowedOrigins, origin);
  }

  /**
   * What changes something is sent by programs, not by pages: a page cannot send JSON to another origin without asking
   * first. On the port for clients a page may not read anything with a key either.
   */
  #pageOrForm({ headers }: Exchange, { method, body }: ApiCall): Refusal | null {
    const { origin, "sec-fetch-site": site, "content-type": type } = headers;
    if ((this.isPublic || method !== "GET") && (origin !== undefined || site !== undefined)) return refusal("forbidden", "web pages may not send this: the request has an Origin or Sec-Fetch-Site header");
    if (body === null || type === "application/json") return null;
    return typeof type === "string" && type.split(";", 1)[0]!.trim().toLowerCase() === "application/json" ? null : refusal("unsupported_media_type", "Content-Type: must be application/json");
  }
}
