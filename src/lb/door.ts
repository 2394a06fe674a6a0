/**
 * Takes clients: waits for their first bytes where the policy needs them, dials a node, tries the next one where it does
 * not accept, and bounds how many there are. A client that waits holds one file, a forwarded one two.
 */
import type { Socket } from "node:net";
import { xxh32 } from "../placement/hash.ts";
import { FirstRequest, type Hint } from "./firstbytes.ts";
import { closeLink, createLink, dial, join, reset, type Link, type LinkEvents } from "./link.ts";
import type { BalancedNode, Nodes } from "./nodes.ts";
import { Policies, type Policy } from "./policies.ts";
import { plain, proxyHeader } from "./proxyheader.ts";

/** Options that a reload may change. */
export interface DoorConfig {
  readonly policy: Policy;
  readonly firstBytesMs: number;
  readonly firstBytesMax: number;
  readonly dialMs: number;
  readonly connectionsMax: number;
  readonly sendProxy: boolean;
}

/** full: no room, and nobody silent. silent: dropped for another client. slow: no first request in time. large: it does not end. */
export const refusals = ["full", "silent", "slow", "large", "no-node", "draining"] as const;
export type Refusal = (typeof refusals)[number];

export interface DoorCounts {
  waiting: number;
  dialling: number;
  joined: number;
  accepted: number;
  /** Dials after one that failed. */
  redials: number;
  readonly refused: Record<Refusal, number>;
}

export interface DoorOptions {
  readonly nodes: Nodes;
  readonly config: DoorConfig;
  /** A dial failed, for the log. */
  readonly dialFailed: (node: BalancedNode, code: string) => void;
  /** Monotonic, in milliseconds. */
  readonly clock?: () => number;
  readonly random?: () => number;
}

const sweepMs = 100;
const noHint: Hint = { node: "", tag: 0, hash: 0 };
/** Errors of this machine, which say nothing about the node. */
const ownProblems = new Set(["EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS", "ENOMEM"]);

export class Door implements LinkEvents {
  readonly bytes = { toNodes: 0, toClients: 0 };
  readonly counts: DoorCounts = { waiting: 0, dialling: 0, joined: 0, accepted: 0, redials: 0, refused: { full: 0, silent: 0, slow: 0, large: 0, "no-node": 0, draining: 0 } };
  readonly #nodes: Nodes;
  readonly #policies: Policies;
  readonly #dialFailed: DoorOptions["dialFailed"];
  readonly #clock: () => number;
  #config: DoorConfig;
  /** The longest waiting first, in both. */
  readonly #waiting = new Set<Link>();
  readonly #dialling = new Set<Link>();
  readonly #joined = new Set<Link>();
  readonly #timer: NodeJS.Timeout;
  #leaving = false;

  constructor({ nodes, config, dialFailed, clock = () => performance.now(), random }: DoorOptions) {
    this.#nodes = nodes;
    this.#config = config;
    this.#policies = new Policies({ nodes, clock, ...(random && { random }) });
    this.#dialFailed = dialFailed;
    this.#clock = clock;
    this.#timer = setInterval(() => this.sweep(), sweepMs).unref();
  }

  /** Connections that are there keep what they have. */
  reload(config: DoorConfig): void {
    this.#config = config;
  }

  /** @param client reads nothing yet @param readsShared as `acceptFrom` has made it */
  accept(client: Socket, readsShared: boolean): void {
    this.counts.accepted++;
    if (this.#leaving) return this.#turnAway(client, "draining");
    if (!this.#hasRoom() && !this.#makeRoom()) return this.#turnAway(client, "full");
    const waits = this.#config.policy === "hash";
    const link = createLink(client, this, "waiting", this.#clock(), readsShared);
    this.#waiting.add(link);
    this.counts.waiting++;
    if (waits) client.resume();
    else this.#dial(link, noHint);
  }

  firstBytes(link: Link, bytes: Buffer): boolean {
    link.first = link.first.length === 0 ? bytes : Buffer.concat([link.first, bytes]);
    link.request ??= new FirstRequest();
    const read = link.request.read(link.first);
    link.isHttp = read.kind !== "other";
    if (read.kind === "more") {
      if (link.first.length < this.#config.firstBytesMax) return true;
      this.#drop(link, "large");
      return false;
    }
    const named = read.kind === "http" ? read.named : null;
    this.#dial(link, { node: named?.node ?? "", tag: named?.tag ?? 0, hash: named?.hash ?? hashOfAddress(link.client) });
    return false;
  }

  connected(link: Link): void {
    const target = link.target!;
    this.#dialling.delete(link);
    this.counts.dialling--;
    this.counts.joined++;
    this.#joined.add(link);
    target.opened++;
    if (target.refuses) {
      target.refuses = false;
      this.#nodes.changed();
    }
    const { remoteAddress: from, remotePort: fromPort, localAddress: to, localPort: toPort } = this.#config.sendProxy ? link.client : nowhere;
    join(link, this.#config.sendProxy ? proxyHeader({ from, fromPort, to, toPort }) : null);
  }

  dialFailed(link: Link, code: string): void {
    const target = link.target!;
    target.open--;
    this.#dialling.delete(link);
    this.counts.dialling--;
    link.node = null;
    if (link.client.destroyed) return void (link.state = "closed");
    if (ownProblems.has(code)) return this.#giveUp(link);
    target.failed++;
    if (!target.refuses) {
      target.refuses = true;
      this.#nodes.changed();
      this.#dialFailed(target, code);
    }
    link.tried = [...link.tried, target];
    this.counts.redials++;
    this.#dial(link, link.hint!);
  }

  closed(link: Link): void {
    if (this.#waiting.delete(link)) this.counts.waiting--;
    if (this.#dialling.delete(link)) this.counts.dialling--;
    if (this.#joined.delete(link)) this.counts.joined--;
    if (link.target !== null && link.node !== null) link.target.open--;
  }

  /** Ends what has taken too long. */
  sweep(): void {
    const now = this.#clock();
    for (const link of this.#waiting) {
      if (now - link.since < this.#config.firstBytesMs) break;
      this.#drop(link, "slow");
    }
    for (const link of this.#dialling) {
      if (now - link.since < this.#config.dialMs) break;
      link.problem = "ETIMEDOUT";
      link.node?.destroy();
    }
  }

  /** New clients are turned away. Those that wait are closed: they have sent no request. */
  leave(): void {
    this.#leaving = true;
    for (const link of this.#waiting) this.#drop(link, "draining");
  }

  get open(): number {
    return this.counts.waiting + this.counts.dialling + this.counts.joined;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const links of [this.#waiting, this.#dialling, this.#joined]) for (const link of links) closeLink(link);
  }

  #dial(link: Link, hint: Hint): void {
    if (this.#waiting.delete(link)) this.counts.waiting--;
    link.hint = hint;
    const target = this.#policies.choose(this.#config.policy, hint, link.tried);
    if (target === null) return this.#giveUp(link);
    target.open++;
    this.counts.dialling++;
    this.#dialling.add(link);
    dial(link, target, this.#clock());
  }

  /** A browser, or a client of ours, learns that it may come again. */
  #giveUp(link: Link): void {
    this.counts.refused["no-node"]++;
    link.state = "closed";
    if (link.isHttp) link.client.end(unavailable, () => link.client.destroy());
    else reset(link.client);
  }

  #hasRoom(): boolean {
    const { waiting, dialling, joined } = this.counts;
    return waiting + 2 * (dialling + joined + 1) <= 2 * this.#config.connectionsMax;
  }

  /** Clients that send their request at once never wait long enough to be the first here. */
  #makeRoom(): boolean {
    for (const link of this.#waiting) {
      this.#drop(link, "silent");
      if (this.#hasRoom()) return true;
    }
    return this.#hasRoom();
  }

  #drop(link: Link, refusal: Refusal): void {
    this.counts.refused[refusal]++;
    if (this.#waiting.delete(link)) this.counts.waiting--;
    link.state = "closed";
    if (refusal === "large" && link.isHttp) link.client.end(tooLarge, () => link.client.destroy());
    else link.client.destroy();
  }

  #turnAway(accepted: Socket, refusal: Refusal): void {
    this.counts.refused[refusal]++;
    accepted.on("error", () => undefined);
    reset(accepted);
  }
}

const nowhere = { remoteAddress: undefined, remotePort: undefined, localAddress: undefined, localPort: undefined };

/** Clients of one address stay together. Haproxy's `balance source` has other nodes for them. */
function hashOfAddress({ remoteAddress = "" }: Socket): number {
  return xxh32(plain(remoteAddress));
}

const body = (code: string, text: string) => JSON.stringify({ error: { code, text } });
const answer = (status: string, headers: string, text: string) =>
  `HTTP/1.1 ${status}\r\n${headers}Content-Type: application/json\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`;
const unavailable = answer("503 Service Unavailable", "Retry-After: 1\r\n", body("unavailable", "no node takes clients now"));
const tooLarge = answer("431 Request Header Fields Too Large", "", body("too_large", "the headers of the request are too long for the load balancer"));
