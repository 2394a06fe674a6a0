/**
 * The reactors of a node, seen from the main thread: starts them, replaces one that fails, stops them.
 *
 * A reactor that throws closes its sockets and exits. A new one takes its place on the same port, and the clients
 * reconnect. Nothing here calls Worker.terminate(): uWS would take the process down with it.
 */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { KeyMaterial } from "../auth/keys.ts";
import type { Certificate } from "../config/certificate.ts";
import { ConfigError, type Config } from "../config/config.ts";
import type { CloseName } from "../errors.ts";
import { Counters, formatSockets } from "../link/counters.ts";
import { firstApiKind } from "../link/api.ts";
import { Link, type RecordReader } from "../link/link.ts";
import { doorbell, type FromReactor, type ReactorData, type SlowSession, type ToReactor } from "../link/threads.ts";
import { kinds } from "../link/records.ts";
import { createRing } from "../link/ring.ts";
import type { Logger } from "../platform/log/log.ts";
import { canSharePorts } from "../platform/machine.ts";
import { youngMb } from "../platform/heap.ts";
import { planMemory } from "../platform/memoryplan.ts";
import type { Hooks } from "../hooks/hooks.ts";
import type { PublicPort } from "../http/publicport.ts";
import type { Hub } from "../hub/hub.ts";
import { RefusalLog, type LoggedRefusal } from "./refusallog.ts";
import type { AttachedReactor } from "../hub/rooms.ts";

export interface ReactorsOptions {
  readonly config: Config;
  readonly resumeSecret: string;
  readonly authKeys: readonly KeyMaterial[];
  readonly certificate: Certificate | null;
  /** Port on which all reactors listen. */
  readonly port: number;
  /** Port for raw TCP, of the reactors that can listen there; null where it is off. */
  readonly tcpPort: number | null;
  readonly hub: Hub;
  /** Null where no hook is configured. */
  readonly hooks: Hooks | null;
  /** Requests to the HTTP API on this port; null: it has none. */
  readonly publicPort: PublicPort | null;
  readonly counters: readonly SharedArrayBuffer[];
  readonly nodeState: SharedArrayBuffer;
  readonly placement: SharedArrayBuffer;
  readonly gate: SharedArrayBuffer | null;
  readonly log: Logger;
  /** Called when the number of reactors that take sockets changes. */
  onServing(reactors: number): void;
  /** A client could not reach this node. */
  onLook(node: string): void;
}

/** A reactor that ran at least this long is replaced at once; after an earlier failure the node pauses first. */
const stableMs = 10_000;
const pauseMs = 500;
/** Reactors that start at the same time. Each opens a hundred files to load its code, and the limit may be low. */
const startingMax = 2;
/**
 * uWS reads this variable when the first reactor loads its binary. It limits the headers uWS keeps of a request that
 * arrives in pieces. The default, 4 KiB, is too small for a browser's cookies and a token. Node's own HTTP takes 16
 * KiB.
 */
const headersVariable = "UWS_HTTP_MAX_HEADERS_SIZE";
const headersBytesMax = 16_384;
/** Slow sessions in one list. */
const slowNamedMax = 20;
/** Small, so that the hub serves the reactors in turn and a flooded one does not delay the others. */
const readBudgetBytes = 16 * 1024;

const extension = extname(import.meta.url);
const entry = new URL(`../reactor/main${extension}`, import.meta.url);
/** Run from src, a reactor needs the loader of this thread. In dist it runs without anything preloaded. */
const execArgv = extension === ".ts" ? process.execArgv : [];

/** An event of a user who is followed. */
export interface FollowedEvent {
  readonly text: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
}

interface Running extends AttachedReactor {
  readonly worker: Worker;
  readonly startedAt: number;
  readonly ended: Promise<void>;
  /** Resolves once the reactor has disconnected all its sessions. */
  readonly drained: Promise<void>;
  onDrained(): void;
  serving: boolean;
  slow: readonly SlowSession[];
}

export class Reactors {
  /** Set by those who follow users. */
  onFollowed: (user: string, reactor: number, event: FollowedEvent) => void = () => {};
  /** Reactors that failed and were replaced. */
  restarts = 0;
  readonly #options: ReactorsOptions;
  readonly #running: (Running | null)[] = [];
  readonly #withoutKeys = new Set<number>();
  /** Keys of the users whom reactors tell of. */
  #followed: readonly string[] = [];
  /** Used by reactors that start from now on. */
  #certificate: Certificate | null;
  readonly #refusals: RefusalLog;
  #started = false;
  #leaving = false;

  constructor(options: ReactorsOptions) {
    this.#options = options;
    this.#certificate = options.certificate;
    this.#refusals = new RefusalLog(options.log);
  }

  /** Resolves when all reactors listen. `@throws` the reason why one cannot. */
  async start(): Promise<void> {
    process.env[headersVariable] ??= String(headersBytesMax);
    const indexes = this.#options.counters.map((_, index) => index);
    while (indexes.length > 0) await Promise.all(indexes.splice(0, startingMax).map((index) => this.#spawn(index)));
    this.#started = true;
  }

  /** Reactors that listen. */
  get serving(): number {
    return this.#running.filter((reactor) => reactor?.serving === true).length;
  }

  /** Bytes on their way to a reactor. */
  queue(index: number): { ring: number; overflow: number } {
    return this.#running[index]?.link.depth ?? { ring: 0, overflow: 0 };
  }

  /** New connections get this certificate; open ones keep theirs. */
  renew(certificate: Certificate): void {
    this.#certificate = certificate;
    for (const reactor of this.#running) reactor?.worker.postMessage({ kind: "certificate", certificate } satisfies ToReactor);
  }

  /** The slowest sessions of the node, the longest queue first. */
  slow(): (SlowSession & { readonly reactor: number })[] {
    const all = this.#running.flatMap((running) => running?.slow.map((session) => ({ reactor: running.index, ...session })) ?? []);
    return all.sort((a, b) => b.queuedBytes - a.queuedBytes).slice(0, slowNamedMax);
  }

  /** Has all of them tell of these users' sockets and commands. */
  follow(users: readonly string[]): void {
    this.#followed = users;
    for (const reactor of this.#running) reactor?.worker.postMessage({ kind: "follow", users } satisfies ToReactor);
  }

  /** What was logged last of a reason why clients were refused. */
  refusalOf(reason: string): LoggedRefusal | null {
    return this.#refusals.last(reason);
  }

  /** Tells them the result of a look at a node. */
  looked(node: string, refusing: readonly string[]): void {
    for (const reactor of this.#running) reactor?.worker.postMessage({ kind: "looked", node, refusing } satisfies ToReactor);
  }

  /** Has all of them collect their garbage. */
  collect(): void {
    for (const reactor of this.#running) reactor?.worker.postMessage({ kind: "collect" } satisfies ToReactor);
  }

  /** Makes a reactor throw, as a bug would. */
  fail(index: number, inCallback: boolean): void {
    this.#running[index]?.worker.postMessage({ kind: "fail", inCallback } satisfies ToReactor);
  }

  /**
   * Disconnects every session, spread over `windowMs`; resolves when none is left. A reactor that fails meanwhile is
   * not replaced: its sessions are gone too.
   */
  async drain(windowMs: number, url: string): Promise<void> {
    this.#leaving = true;
    const running = this.#running.filter((reactor) => reactor !== null);
    for (const { worker } of running) worker.postMessage({ kind: "drain", windowMs, url } satisfies ToReactor);
    await Promise.all(running.map(({ drained, ended }) => Promise.race([drained, ended])));
  }

  /** Closes every session with this code and stops the reactors. */
  async close(name: CloseName): Promise<void> {
    this.#leaving = true;
    const running = this.#running.filter((reactor) => reactor !== null);
    for (const { worker } of running) worker.postMessage({ kind: "close", name } satisfies ToReactor);
    await Promise.all(running.map(({ ended }) => ended));
  }

  /** Resolves once it listens. */
  #spawn(index: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const running = this.#create(index, (message) => {
        if (message.kind === "listening") {
          running.serving = true;
          if (this.#followed.length > 0) running.worker.postMessage({ kind: "follow", users: this.#followed } satisfies ToReactor);
          this.#options.onServing(this.serving);
          return resolve();
        }
        if (message.kind === "drained") return running.onDrained();
        if (message.kind === "renewed") {
          const { problem } = message;
          if (problem !== null) this.#options.log.error({ reactor: index, problem }, `reactor ${index} cannot use the new certificate and keeps the old one; check the certificate's files`);
          return;
        }
        if (message.kind === "slow") {
          running.slow = message.sessions;
          return;
        }
        if (message.kind === "look") return this.#options.onLook(message.node);
        if (message.kind === "refused") return this.#refusals.tell(message);
        if (message.kind === "trace") {
          if (message.logged) this.#options.log.trace({ event: "trace", reactor: index, ...message.fields }, message.text);
          if (message.followed !== "") this.onFollowed(message.followed, index, message);
          return;
        }
        if (message.kind === "hello") {
          const { session, user, client, resumed } = message;
          return this.#options.log.debug({ reactor: index, session, user, client, resumed }, "hello");
        }
        if (message.kind === "keys") return this.#onKeys(index, message.problem);
        this.#options.log.error({ reactor: index, stage: message.stage }, `reactor ${index} failed: ${message.text}`);
        reject(message.stage === "listen" ? new ConfigError([`${message.text}; choose another port`]) : new Error(message.text));
      });
      this.#running[index] = running;
      this.#options.hub.attach(running);
      this.#options.publicPort?.attach(running);
      // No effect unless the reactor exited before it listened.
      running.ended.then(() => reject(new Error(`reactor ${index} exited before it listened`)), reject);
    });
  }

  /** Every reactor fetches the keys for itself; the log has one line for all of them. */
  #onKeys(index: number, problem: string | null): void {
    const before = this.#withoutKeys.size;
    if (problem === null) this.#withoutKeys.delete(index);
    else this.#withoutKeys.add(index);
    const { log } = this.#options;
    if (problem !== null && before === 0) log.warn({ problem }, "authJwksUrl: the keys cannot be fetched; the node keeps using those it has");
    if (problem === null && before === 1) log.info("authJwksUrl: the keys can be fetched again");
  }

  #create(index: number, onMessage: (message: Exclude<FromReactor, number>) => void): Running {
    const { config, resumeSecret, authKeys, port, hub, publicPort, counters, nodeState, placement, gate, log } = this.#options;
    const toHub = createRing(config.ringBytes);
    const fromHub = createRing(config.ringBytes);
    const tcpPort = this.#tcpPort(index);
    const workerData: ReactorData = { index, config, resumeSecret, authKeys, certificate: this.#certificate, port, tcpPort, toHub, fromHub, counters, nodeState, placement, gate };
    const resourceLimits = { maxYoungGenerationSizeMb: youngMb, maxOldGenerationSizeMb: planMemory(config).reactorHeapMb };
    const worker = new Worker(entry, { workerData, execArgv, resourceLimits, name: `reactor ${index}` });
    const link = new Link({
      out: fromHub,
      in: toHub,
      overflowBytesMax: config.overflowBytesMax,
      readBudgetBytes,
      ringDoorbell: () => worker.postMessage(doorbell),
      wakeRestMs: config.wakeRestMs,
      onRecord: (kind, record) => this.#onRecord(running, kind, record),
      onRoom: () => {
        hub.onRoom(running);
        publicPort?.onRoom(running);
      },
      onBatchEnd: () => {},
    });
    const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    const { promise: drained, resolve: onDrained } = withResolvers();
    const running: Running = { index, link, live: true, worker, startedAt: performance.now(), ended, drained, onDrained, serving: false, slow: [] };
    worker.on("message", (message: FromReactor) => {
      if (message === doorbell) link.wake();
      else onMessage(message);
    });
    // Errors the reactor cannot handle itself, such as a syntax error in its code.
    worker.on("error", (error) => log.error({ reactor: index, err: error }, `reactor ${index} crashed`));
    worker.once("exit", () => this.#exited(running));
    return running;
  }

  #onRecord(running: Running, kind: number, record: RecordReader): void {
    const { hub, hooks, publicPort } = this.#options;
    if (kind >= firstApiKind) publicPort?.onRecord(running, kind, record);
    else if (kind === kinds.ask && hooks !== null) hooks.onRecord(running, record);
    else hub.onRecord(running, kind, record);
  }

  /** Where Node cannot share a port between threads, the first reactor serves all raw TCP. */
  #tcpPort(index: number): ReactorData["tcpPort"] {
    const { tcpPort: port, counters } = this.#options;
    const shared = counters.length > 1 && canSharePorts();
    return port === null || (index > 0 && !shared) ? null : { port, shared };
  }

  #exited(running: Running): void {
    running.link.close();
    this.#options.hub.detach(running);
    this.#options.publicPort?.detach(running);
    this.#running[running.index] = null;
    this.#withoutKeys.delete(running.index);
    const counters = new Counters(this.#options.counters[running.index]!);
    for (const state of ["handshake", "ready", "closing", ...formatSockets] as const) counters.set(state, 0);
    if (this.#leaving || !this.#started) return;
    this.restarts++;
    this.#options.onServing(this.serving);
    const stable = performance.now() - running.startedAt >= stableMs;
    this.#options.log.warn({ reactor: running.index }, `reactor ${running.index} exited; its clients reconnect, and a new reactor replaces it`);
    setTimeout(() => this.#replace(running.index), stable ? 0 : pauseMs);
  }

  #replace(index: number): void {
    if (this.#leaving) return;
    this.#spawn(index).catch((error: unknown) =>
      this.#options.log.error({ reactor: index, err: error }, `reactor ${index} could not be replaced; the node runs with fewer reactors until it is restarted`),
    );
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
