/** State and messages that the main thread and a reactor share, besides records on rings (link/records.ts). */
import type { KeyMaterial } from "../auth/keys.ts";
import type { Certificate } from "../config/certificate.ts";
import type { Config } from "../config/config.ts";
import type { CloseName } from "../errors.ts";

/** There are records to read, or there is room to write: look at the rings. */
export const doorbell = 0;

/** The data that a reactor starts with. */
export interface ReactorData {
  readonly index: number;
  readonly config: Config;
  /** Signs resume tokens. */
  readonly resumeSecret: string;
  /** The configured keys for clients' tokens, besides keys from a URL. */
  readonly authKeys: readonly KeyMaterial[];
  /** For TLS; null where it is off. */
  readonly certificate: Certificate | null;
  /** The port to listen on, together with the other reactors. */
  readonly port: number;
  /** The port for raw TCP; null where this reactor does not listen on it. */
  readonly tcpPort: { readonly port: number; readonly shared: boolean } | null;
  readonly toHub: SharedArrayBuffer;
  readonly fromHub: SharedArrayBuffer;
  /** Counters of all reactors, this one's at `index`. */
  readonly counters: readonly SharedArrayBuffer[];
  readonly nodeState: SharedArrayBuffer;
  /** See placement/shared.ts. */
  readonly placement: SharedArrayBuffer;
  /** See placement/leases/gate.ts. Null where users have no holder. */
  readonly gate: SharedArrayBuffer | null;
}

export type ToReactor =
  | typeof doorbell
  /** Stop listening, close every session with this code, and exit. */
  | { readonly kind: "close"; readonly name: CloseName }
  /** Send the sessions away one after the other. NodeState already makes reactors refuse new sockets. */
  | { readonly kind: "drain"; readonly windowMs: number; readonly url: string }
  /** The node `node` has been looked at. `refusing`: all nodes that refuse connections now. */
  | { readonly kind: "looked"; readonly node: string; readonly refusing: readonly string[] }
  /** Tell of these users' sockets and commands, by the keys of the users. Of none: stop. */
  | { readonly kind: "follow"; readonly users: readonly string[] }
  /** Collect garbage now: the node is short of memory. */
  | { readonly kind: "collect" }
  /** Use this certificate for new connections. */
  | { readonly kind: "certificate"; readonly certificate: Certificate }
  /** Throw, as a bug would, now or inside uWS's next callback for a session: tests check the consequences. */
  | { readonly kind: "fail"; readonly inCallback: boolean };

export type FromReactor =
  | typeof doorbell
  /** The keys at `authJwksUrl` are unavailable, for this reason. Null: they are available again. */
  | { readonly kind: "keys"; readonly problem: string | null }
  | { readonly kind: "listening" }
  /** Every session has been sent away. */
  | { readonly kind: "drained" }
  /** A client could not reach this node: look whether it takes connections. */
  | { readonly kind: "look"; readonly node: string }
  /** The reactor has the new certificate, or could not load it. */
  | { readonly kind: "renewed"; readonly problem: string | null }
  /** Its slowest sessions now, the longest queue first. */
  | { readonly kind: "slow"; readonly sessions: readonly SlowSession[] }
  /** Clients were refused. `unsaid` counts the refusals since the last such message. */
  | ({ readonly kind: "refused"; readonly unsaid: number } & Refusal)
  /** A session began or was resumed; posted at log level debug and below only. */
  | { readonly kind: "hello"; readonly session: string; readonly user: string; readonly client: string; readonly resumed: boolean }
  /** An event of one socket or command, for the log (level trace), or of a user who is followed: the key, or "". */
  | { readonly kind: "trace"; readonly text: string; readonly fields: Readonly<Record<string, string | number | boolean>>; readonly logged: boolean; readonly followed: string }
  /** The reactor could not listen, or code threw: it has closed its sockets and will exit. */
  | { readonly kind: "failed"; readonly stage: "listen" | "run"; readonly text: string };

/** Why a socket was refused before its upgrade. */
export type TurnedAway = "draining" | "sockets_max" | "memory" | "handshakes" | "returns";
/** Reasons as the log names them: a close, a refused socket, or a refused newer token. */
export type RefusalReason = CloseName | TurnedAway | "refresh";

/** Why a client was refused. */
export interface Refusal {
  readonly reason: RefusalReason;
  /** Details that the code does not tell; never a token. */
  readonly text: string;
  /** The client's name for itself in hello, which may be any text. */
  readonly client: string;
}

/** A session whose socket lags. Fields that its client chose must not become a metric's label. */
export interface SlowSession {
  readonly session: string;
  readonly user: string;
  readonly tenant: string;
  readonly state: string;
  readonly queuedBytes: number;
  /** For how long its queue has been long. */
  readonly slowMs: number;
  /** The first of the rooms that send it nothing until its queue has room. */
  readonly roomsBehind: readonly string[];
}

/** The state of the whole node. Reactors read it for `/ready`, and before they accept a socket. */
export class NodeState {
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared);
  }

  static create(): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(4 * words.length);
    // Unbounded until memory has been checked.
    new NodeState(shared).socketCredit = 2 ** 30;
    return shared;
  }

  /** Whether the node can serve clients. */
  get ready(): boolean {
    return this.problem === "";
  }

  /** Why it is not ready; empty where it is. */
  get problem(): string {
    if (this.leaving) return "draining: the node accepts no new clients and will exit";
    if (this.shortOfMemory) return "short of memory: the node accepts no sockets until it uses less";
    if (this.cutOff) return "cut off: the node cannot reach NATS";
    return this.serving ? "" : "starting: the node accepts no sockets yet";
  }

  /** At least one reactor listens. */
  get serving(): boolean {
    return this.#get("serving");
  }

  set serving(value: boolean) {
    this.#set("serving", value);
  }

  /** The node cannot reach NATS, which it shares with other nodes. */
  get cutOff(): boolean {
    return this.#get("cutOff");
  }

  set cutOff(value: boolean) {
    this.#set("cutOff", value);
  }

  /** The node accepts no more sockets until it uses less memory. */
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

  /** Sockets that may be accepted before the next memory check. */
  set socketCredit(sockets: number) {
    Atomics.store(this.#words, words.indexOf("socketCredit"), sockets);
  }

  /** False: no more before the next memory check. */
  takeSocket(): boolean {
    return Atomics.load(this.#words, words.indexOf("socketCredit")) > 0 && Atomics.sub(this.#words, words.indexOf("socketCredit"), 1) > 0;
  }

  /** Other nodes sign tickets with another secret. */
  get secretDiffers(): boolean {
    return this.#get("secretDiffers");
  }

  set secretDiffers(value: boolean) {
    this.#set("secretDiffers", value);
  }

  /** The node accepts nothing new, and will exit. */
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

const words = ["serving", "cutOff", "shortOfMemory", "outOfMemory", "socketCredit", "leaving", "secretDiffers"] as const;
type Word = (typeof words)[number];
