/**
 * A reactor: one worker thread with its own event loop, its own uWS App on the node's port, and the sessions of the
 * sockets that the kernel assigns to it.
 *
 * uWS aborts the whole process when a worker exits while its App is open. So an uncaught error first closes the App and
 * then ends the thread; the main thread starts another. The App is closed in a later turn of the loop: uWS may have
 * called the code that threw, and it still needs its socket.
 */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import type { TemplatedApp } from "uWebSockets.js";
import { createVerifier } from "../auth/verifier.ts";
import { collectGarbage } from "../platform/collect.ts";
import { hasKey } from "../config/reach.ts";
import { hasHooks } from "../config/hooks.ts";
import type { Certificate } from "../config/certificate.ts";
import type { CloseName } from "../errors.ts";
import { Counters, formatSockets } from "../link/counters.ts";
import { Link, type RecordReader } from "../link/link.ts";
import { kinds } from "../link/records.ts";
import { planMemory } from "../platform/memoryplan.ts";
import { doorbell, NodeState, type FromReactor, type ReactorData, type SlowSession, type ToReactor } from "../link/threads.ts";
import { Encoder } from "../protocol/formats/encoder.ts";
import { BufferPool } from "../protocol/framing.ts";
import { SharedPlacement } from "../placement/shared.ts";
import { ResumeTokens } from "../auth/resume.ts";
import { compileKinds } from "../config/roomnames.ts";
import { PlaceTickets, placeTag } from "../auth/placetickets.ts";
import { Tickets } from "../auth/tickets.ts";
import { Admission } from "./transport/admission.ts";
import type { Context } from "./context.ts";
import { dispatchHeld } from "./dispatch.ts";
import { SendAway } from "./session/sendaway.ts";
import { Entrances } from "./transport/entrances.ts";
import { onAssign, onUnassign } from "./session/assigned.ts";
import { EarlyHellos } from "./session/earlyhellos.ts";
import { Expiry } from "./session/expiry.ts";
import { Heartbeat } from "./session/heartbeat.ts";
import { onAdmitted, onKick } from "./session/hello.ts";
import { Holdings } from "./session/holdings.ts";
import { ConnectionUrl } from "./locate/connectionurl.ts";
import { ReactorLooks } from "./locate/looks.ts";
import { Targets } from "./locate/targets.ts";
import { ReactorHooks, type Released } from "./hooks/hooks.ts";
import { PublicApi } from "./api/publicapi.ts";
import { serveHttp } from "./transport/http.ts";
import { closeSession, writeBytes } from "./outgoing.ts";
import { onStatus } from "./presence.ts";
import { QueueBudget } from "./rooms/queuebudget.ts";
import { Queues } from "./rooms/queuereport.ts";
import type { Reactor } from "./reactor.ts";
import { Refusals } from "./refusalreports.ts";
import { Moves } from "./session/moves.ts";
import { ReturnWindow } from "./session/returnwindow.ts";
import { ReactorRooms } from "./rooms/rooms.ts";
import { ReactorSessions } from "./session/session.ts";
import { routesOf } from "./transport/routes.ts";
import { Audiences } from "./transport/socket.ts";
import { doorkeeper } from "./transport/sockets.ts";
import { serveTcp, type TcpTransport } from "./transport/tcp.ts";
import { Together } from "./together.ts";
import { Trace } from "./trace.ts";
import { serveWebSockets } from "./transport/websocket.ts";

const sampleMs = 1000;
/** Memory admission uses these figures, and a crowd of clients fills a heap within a second. */
const heapSampleMs = 100;
const lagResolutionMs = 50;
/** Time for lagging readers to read their queues when the node closes. */
const flushMs = 1000;
/** Maximum length of the client's name in a log line. */
const clientCharsMax = 64;

const { index, config, resumeSecret, authKeys, certificate, port, tcpPort, toHub, fromHub, counters: allCounters, nodeState, placement, gate } = workerData as ReactorData;
const main = parentPort!;
const counters = new Counters(allCounters[index]!);
const audiences = new Audiences();
const link = new Link({
  out: toHub,
  in: fromHub,
  overflowBytesMax: config.overflowBytesMax,
  readBudgetBytes: 1 << 20, // larger batches pack more frames together
  ringDoorbell: () => main.postMessage(doorbell),
  wakeRestMs: config.wakeRestMs,
  onRecord,
  onBatchEnd: () => {
    context.together.leave();
    rooms.deliveries.flush();
  },
  onTurn: () => rooms.fanout.turn(),
  onRoom: () => publicApi?.onRoom(),
});
const tickets = new Tickets(resumeSecret);
const placeTickets = new PlaceTickets(resumeSecret);
const sessions = new ReactorSessions(counters);
const state = new NodeState(nodeState);
const view = new SharedPlacement(placement, config.placement, config.placementPartitions);
const looks = new ReactorLooks({ ask: (node) => post({ kind: "look", node }) });
const trace = new Trace(post, config.logLevel === "trace");
const context: Context = {
  config,
  compressFrom: config.compression === "off" ? Infinity : config.compressionBytesMin,
  audiences,
  link,
  together: new Together((session, frame) => writeBytes(context, session, frame)),
  counters,
  sessions,
  encoder: new Encoder(2 * config.frameBytesMax),
  pool: new BufferPool(config.frameBytesMax),
  outOfMemory: () => state.outOfMemory,
  queueBudget: new QueueBudget(planMemory(config).queuesBytes, sessions, counters),
  kindOf: compileKinds(config),
  verifier: hasKey(config) ? createVerifier({ config, keys: authKeys, onOutage, onVerified }) : null,
  resumeTokens: new ResumeTokens(resumeSecret),
  placement: view,
  holdings: new Holdings(gate, config.placementPartitions),
  targets: new Targets({ view, reactors: allCounters.length, refuses: (node) => looks.refuses(node), ready: () => state.ready }),
  tickets,
  placeTickets,
  admission: new Admission(config.handshakesPerSecond / allCounters.length, { tickets, placeTickets, node: placeTag(config.nodeId) }),
  looks,
  refusals: new Refusals(post),
  greeted: config.logLevel === "debug" || config.logLevel === "trace" ? ({ id, grant }, client, resumed) => post({ kind: "hello", session: id, user: grant?.user ?? "", client: client.slice(0, clientCharsMax), resumed }) : null,
  trace,
  leaving: new Set(),
};
const rooms = new ReactorRooms(context);
const hooks = hasHooks(config) ? new ReactorHooks(context) : null;
const heartbeat = new Heartbeat(context);
const expiry = new Expiry(context);
const returnWindow = new ReturnWindow(context, allCounters.map((shared) => new Counters(shared)));
let toldSlow = false;
let failed = false;
// Frames count when they are delivered, publishes when they leave, which may be later (windows.ts).
const queues = new Queues(context, tellSlow, () => counters.get("framesOut") + counters.get("pongs") + rooms.fanout.order);
const early = new EarlyHellos(context);
const reactor: Reactor = { ...context, rooms, heartbeat, returnWindow, hooks, early, get moves() { return moves; } };
const moves: Moves = new Moves(reactor, allCounters.length);

for (const event of ["uncaughtException", "unhandledRejection"] as const) process.on(event, fail);
for (const gauge of ["handshake", "ready", "closing", "tcpSockets", "members", "behind", "rooms", "keysAway", "heldBytes", ...formatSockets] as const) counters.set(gauge, 0);

const connectionUrl = new ConnectionUrl({ ...context, state, tokensPerSecond: config.handshakesPerSecond / allCounters.length });
const publicApi = config.apiPublic ? new PublicApi({ link, counters, state, ringBytes: config.ringBytes }) : null;
const door = doorkeeper(state, config.socketsMax, allCounters);
const entrances = new Entrances({ reactor, port, serve, sendBack });
heartbeat.start();
expiry.start();
returnWindow.start();
moves.start();
const loop = monitorEventLoopDelay({ resolution: lagResolutionMs });
loop.enable();
let lastUse = performance.eventLoopUtilization();
let tcp: TcpTransport | null = null;
let drain: SendAway | null = null;
const sampler = setInterval(sample, sampleMs);
const heapSampler = setInterval(sampleHeap, heapSampleMs);
main.on("message", onMessage);
listen();

function listen(): void {
  if (!entrances.open(certificate)) return listenFailed(`--port ${port}: cannot listen on ${config.host}:${port}`);
  if (tcpPort === null) return post({ kind: "listening" });
  const host = config.tcpHost || config.host;
  tcp = serveTcp(reactor, door, {
    host,
    port: tcpPort.port,
    shared: tcpPort.shared,
    certificate,
    listening: () => post({ kind: "listening" }),
    failed: ({ message }) => listenFailed(`--tcp-port ${tcpPort.port}: cannot listen on ${host}:${tcpPort.port}: ${message}`),
  });
}

/** @returns how many WebSockets the App has open. */
function serve(app: TemplatedApp): () => number {
  const routes = routesOf(app, counters);
  connectionUrl.serve(routes);
  publicApi?.serve(app);
  serveHttp(routes, config, state);
  return serveWebSockets(app, reactor, door);
}

function sendBack(app: TemplatedApp): void {
  for (const session of context.sessions.open()) if (session.audience === app) closeSession(context, session, "shutdown");
}

/** New connections get the new certificate. If it cannot be used, the old one stays. */
function renew(renewed: Certificate): void {
  try {
    if (!entrances.open(renewed)) throw new Error(`cannot listen on ${config.host}:${port} again`);
    tcp?.renew(renewed);
    post({ kind: "renewed", problem: null });
  } catch (error) {
    post({ kind: "renewed", problem: String(error) });
  }
}

function listenFailed(text: string): void {
  post({ kind: "failed", stage: "listen", text });
  end(1);
}

function onRecord(kind: number, record: RecordReader): boolean | void {
  // Nothing overtakes the answers that leave together.
  if (kind !== kinds.joined) context.together.leave();
  switch (kind) {
    case kinds.admitted:
      return goOn(onAdmitted(reactor, record));
    case kinds.verdict:
      return goOn(hooks?.onVerdict(record) ?? null);
    case kinds.claim:
      return context.holdings.claimed(record.u32(), record.u32());
    case kinds.kick:
      return onKick(reactor, record);
    case kinds.assign:
      return onAssign(reactor, record);
    case kinds.unassign:
      return onUnassign(reactor, record);
    case kinds.status:
      return onStatus(reactor, record);
    case kinds.apiHead:
    case kinds.apiPiece:
    case kinds.apiMore:
    case kinds.apiDrop:
      return publicApi?.onRecord(kind, record);
    default:
      return rooms.onRecord(kind, record);
  }
}

function goOn(released: Released | null): void {
  if (released !== null) dispatchHeld(reactor, released.session, released.held);
}

function onMessage(message: ToReactor): void {
  if (message === doorbell) return link.wake();
  switch (message.kind) {
    case "close":
      return close(message.name);
    case "drain":
      return sendAway(message.windowMs, message.url);
    case "looked":
      return context.looks.looked(message.node, message.refusing);
    case "collect":
      return collectGarbage();
    case "follow":
      return trace.follow(message.users);
    case "certificate":
      return renew(message.certificate);
    case "fail":
      if (!message.inCallback) return toldToFail();
      // uWS calls it while it writes to sockets, when closing an App does most harm.
      rooms.slow.dropped = toldToFail;
  }
}

function toldToFail(): never {
  throw new Error("told to fail");
}

/** Sends the sessions away in their turns. The port stays open, so that the node can refuse new clients with a code. */
function sendAway(windowMs: number, url: string): void {
  returnWindow.stop();
  moves.stop();
  drain = new SendAway(reactor, { windowMs, url, phase: (index + 0.5) / allCounters.length }, () => post({ kind: "drained" }));
  drain.start();
}

/** Stops listening, closes all sockets, and waits until their queues are sent. */
function close(name: CloseName): void {
  drain?.stop();
  returnWindow.stop();
  moves.stop();
  entrances.stop();
  tcp?.stop();
  rooms.deliveries.flushAll();
  let queued = false;
  for (const session of context.sessions.open()) {
    queued ||= (session.socket?.getBufferedAmount() ?? 0) > 0;
    closeSession(context, session, name);
  }
  setTimeout(() => end(0), queued ? flushMs : 0);
}

function onOutage(problem: string | null): void {
  counters.set("keysAway", problem === null ? 0 : 1);
  post({ kind: "keys", problem });
}

function onVerified(): void {
  counters.add("tokensVerified", 1);
}

function fail(error: unknown): void {
  // Closing may throw too, and must not start again.
  if (failed) return;
  failed = true;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  post({ kind: "failed", stage: "run", text });
  setImmediate(() => end(1));
}

function end(code: number): void {
  clearInterval(sampler);
  clearInterval(heapSampler);
  drain?.stop();
  heartbeat.stop();
  expiry.stop();
  returnWindow.stop();
  moves.stop();
  early.stop();
  queues.stop();
  publicApi?.stop();
  link.close();
  entrances.close();
  // One turn of the loop sends close frames and queued bytes.
  setTimeout(() => process.exit(code), code === 0 ? 50 : 0);
}

function sample(): void {
  const use = performance.eventLoopUtilization(lastUse);
  lastUse = performance.eventLoopUtilization();
  entrances.tidy();
  const { ring, overflow } = link.depth;
  counters.set("loopUtilization", use.utilization);
  counters.set("loopLagP50Ms", lagMs(loop.percentile(50)));
  counters.set("loopLagP99Ms", lagMs(loop.percentile(99)));
  counters.set("loopLagMaxMs", lagMs(loop.max));
  loop.reset();
  counters.set("ringDepthBytes", ring);
  counters.set("overflowBytes", overflow);
  counters.set("buffersAllocated", context.pool.allocated + context.encoder.binary.grown + link.overflowed);
}

function sampleHeap(): void {
  const heap = getHeapStatistics();
  counters.set("heapBytes", heap.used_heap_size);
  counters.set("heapLimitBytes", heap.heap_size_limit);
}

/** The monitor's timer fires every `lagResolutionMs` when nothing is late. */
function lagMs(nanoseconds: number): number {
  return Math.max(0, nanoseconds / 1e6 - lagResolutionMs);
}

/** Posts an empty list once, when the last slow session has recovered. */
function tellSlow(sessions: readonly SlowSession[]): void {
  if (sessions.length > 0 || toldSlow) post({ kind: "slow", sessions });
  toldSlow = sessions.length > 0;
}

function post(message: FromReactor): void {
  main.postMessage(message);
}
