/** What the main thread and a reactor share and post to each other, besides records on rings (link/records.ts). */
import type { KeyMaterial } from "../auth/keys.ts";
import type { Certificate } from "../config/certificate.ts";
import type { Config } from "../config/config.ts";
import type { CloseName } from "../errors.ts";

/** There are records to read, or there is room to write: look at the rings. */
export const doorbell = 0;

/** What a reactor is started with. */
export interface ReactorData {
  readonly index: number;
  readonly config: Config;
  /** What resume tokens are signed with. */
  readonly resumeSecret: string;
  /** What clients' tokens are checked with, besides keys from a URL. */
  readonly authKeys: readonly KeyMaterial[];
  /** What TLS is served with; null where it is off. */
  readonly certificate: Certificate | null;
  /** Where to listen, together with the other reactors. */
  readonly port: number;
  /** Where to listen for raw TCP; null where this reactor does not. */
  readonly tcpPort: { readonly port: number; readonly shared: boolean } | null;
  readonly toHub: SharedArrayBuffer;
  readonly fromHub: SharedArrayBuffer;
  /** Counters of all reactors, this one's at `index`. */
  readonly counters: readonly SharedArrayBuffer[];
  readonly nodeState: SharedArrayBuffer;
}

export type ToReactor =
  | typeof doorbell
  /** Stop listening, close every session with this code, and end. */
  | { readonly kind: "close"; readonly name: CloseName }
  /** Send the sessions away one after the other. New sockets are refused already: NodeState says so. */
  | { readonly kind: "drain"; readonly windowMs: number; readonly url: string }
  /** Collect garbage now: the node is short of memory. */
  | { readonly kind: "collect" }
  /** Serve new connections with this one. */
  | { readonly kind: "certificate"; readonly certificate: Certificate }
  /** Throw, as a bug would, now or inside uWS's next callback for a session: tests check what that costs. */
  | { readonly kind: "fail"; readonly inCallback: boolean };

export type FromReactor =
  | typeof doorbell
  /** The keys at `authJwksUrl` cannot be had, for this reason, or, with null, can again. */
  | { readonly kind: "keys"; readonly problem: string | null }
  | { readonly kind: "listening" }
  /** Every session has been sent away. */
  | { readonly kind: "drained" }
  /** It has the new certificate, or could not take it. */
  | { readonly kind: "renewed"; readonly problem: string | null }
  /** Its slowest sessions now, the longest queue first. */
  | { readonly kind: "slow"; readonly sessions: readonly SlowSession[] }
  /** Clients were refused; `unsaid` is how many more since the last one that was told. */
  | ({ readonly kind: "refused"; readonly unsaid: number } & Refusal)
  /** A session began or was resumed; posted at log level debug and below only. */
  | { readonly kind: "hello"; readonly session: string; readonly user: string; readonly client: string; readonly resumed: boolean }
  /** What became of one socket or command, for log level trace. */
  | { readonly kind: "trace"; readonly text: string; readonly fields: Readonly<Record<string, string | number | boolean>> }
  /** It could not listen, or something was thrown: it has closed its sockets and will end. */
  | { readonly kind: "failed"; readonly stage: "listen" | "run"; readonly text: string };

/** Why a socket was not even upgraded. */
export type TurnedAway = "draining" | "sockets_max" | "memory" | "handshakes" | "returns";
/** As the log names them: how a session was closed, why a socket was not taken, or that a newer token was no good. */
export type RefusalReason = CloseName | TurnedAway | "refresh";

/** Why a client was refused. */
export interface Refusal {
  readonly reason: RefusalReason;
  /** More of it than the code says; never a token. */
  readonly text: string;
  /** What the client calls itself in hello; it may be anything. */
  readonly client: string;
}

/** A session whose socket does not take what is sent to it. What its client chose of this must not become a metric's label. */
export interface SlowSession {
  readonly session: string;
  readonly user: string;
  readonly tenant: string;
  readonly state: string;
  readonly queuedBytes: number;
  /** For how long its queue has been long. */
  readonly slowMs: number;
  /** Rooms it gets nothing of until there is room; the first of them. */
  readonly roomsBehind: readonly string[];
}

/** What the whole node says of itself, read by reactors for `/ready` and before they take a socket. */
export class NodeState {
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared);
  }

  static create(): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(4 * words.length);
    // Until memory has been looked at.
    new NodeState(shared).socketCredit = 2 ** 30;
    return shared;
  }

  /** Whether it can do what it is there for. */
  get ready(): boolean {
    return this.problem === "";
  }

  /** Why it is not ready; empty where it is. */
  get problem(): string {
    if (this.leaving) return "draining: the node takes nothing new, and will end";
    if (this.shortOfMemory) return "short of memory: the node takes no sockets until it uses less";
    if (this.cutOff) return "cut off: the node cannot reach what it shares with others";
    return this.serving ? "" : "starting: the node takes no sockets yet";
  }

  /** Some reactor listens. */
  get serving(): boolean {
    return this.#get("serving");
  }

  set serving(value: boolean) {
    this.#set("serving", value);
  }

  /** What it shares with other nodes cannot be reached. */
  get cutOff(): boolean {
    return this.#get("cutOff");
  }

  set cutOff(value: boolean) {
    this.#set("cutOff", value);
  }

  /** It takes no more sockets until it uses less. */
  get shortOfMemory(): boolean {
    return this.#get("shortOfMemory");
  }

  set shortOfMemory(value: boolean) {
    this.#set("shortOfMemory", value);
  }

  /** Half of the reserve is in use: publishes are refused. */
  get outOfMemory(): boolean {
    return this.#get("outOfMemory");
  }

  set outOfMemory(value: boolean) {
    this.#set("outOfMemory", value);
  }

  /** Sockets that may be taken before memory is looked at again. */
  set socketCredit(sockets: number) {
    Atomics.store(this.#words, words.indexOf("socketCredit"), sockets);
  }

  /** False: no more before memory is looked at again. */
  takeSocket(): boolean {
    return Atomics.load(this.#words, words.indexOf("socketCredit")) > 0 && Atomics.sub(this.#words, words.indexOf("socketCredit"), 1) > 0;
  }

  /** It takes nothing new, and will end. */
  get leaving(): boolean {
    return this.#get("leaving");
  }

  set leaving(value: boolean) {
    this.#set("leaving", value);
  }

  #get(word: Word): boolean {
    return Atomics.load(this.#words, words.indexOf(word)) === 1;
  }

  #set(word: Word, value: boolean): void {
    Atomics.store(this.#words, words.indexOf(word), value ? 1 : 0);
  }
}

const words = ["serving", "cutOff", "shortOfMemory", "outOfMemory", "socketCredit", "leaving"] as const;
type Word = (typeof words)[number];
