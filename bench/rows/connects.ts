/**
 * What a connect costs the server, at an even rate: upgrade, hello and one join, which the client sends right behind the
 * upgrade without waiting for `ready`. The control only upgrades. Sockets stay open until the end.
 */
import { createHistogram } from "node:perf_hooks";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { decodeServerFrame, encodeClientFrame } from "../../src/protocol/codec.ts";
import { type ClientFrame, protocolVersion, type ServerFrame, subprotocols } from "../../src/protocol/messages.ts";
import { micros } from "../load/clock.ts";
import type { Format } from "../load/conversation.ts";
import { pace } from "../load/pace.ts";
import { ClientSocket, type Listener, ReadBuffer } from "../load/socket.ts";
import { tokenFor } from "../load/token.ts";
import { opcodes } from "../load/websocket.ts";
import { cpuSeconds } from "../proc.ts";
import type { ServerName, ServerUnderTest } from "../servers/start.ts";
import { between, coreMetrics, percentileMs, read, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

/** open: no token. token: each client has another one. resume: clients of before come back, with their tokens. */
export type ConnectKind = "open" | "token" | "resume";

const room = "live:bench";
/** For the compilers of both sides. */
const warmUpSockets = 8000;
const warmUpRate = 2500;
const socketsMax = 12_000;
/** The kernel searches long for a free port of an address where most are in use, or were lately. */
const socketsPerAddress = 500;
const answerMs = 10_000;

/** At two rates: the wakes of threads come together at the higher one. */
export const connectRows: readonly Row[] = [
  ...(["open", "token", "resume"] as const).flatMap((kind) => [1000, 2500].map((rate) => connectsRow("json", rate, kind))),
  ...[1000, 2500].map((rate) => connectsRow("binary", rate, "token")),
];

function connectsRow(format: Format, rate: number, kind: ConnectKind): Row {
  const what = { open: "no token", token: "HS256 token", resume: "HS256 token, resumed session" }[kind];
  return {
    name: `connects-${format}-${rate}-${kind}`,
    title: () => `Connects: ${rate.toLocaleString("en")} a second, ${what}, hello and one join at once (${format}), one reactor`,
    servers: ["flux", "uws"],
    metrics: [
      { key: "cpuMicros", title: "server CPU", unit: "µs each", digits: 1 },
      { key: "sleeps", title: "sleeps of the server's threads", unit: "each", digits: 2 },
      { key: "p50", title: "until joined, p50", unit: "ms", digits: 2 },
      { key: "p99", title: "p99", unit: "ms", digits: 2 },
      { key: "latenessP99", title: "connects begun late, p99", unit: "ms", digits: 2 },
      ...coreMetrics,
    ],
    compared: "cpuMicros",
    bars: [{ metric: "cpuMicros", of: "above", atMost: kind === "open" ? 150 : 180 }],
    secondsPlanned: ({ seconds }) => warmUpSockets / warmUpRate + seconds + 3,
    run: (name, scale, say) => run(name, scale, say, { format, rate, kind }),
  };
}

interface Kind {
  readonly format: Format;
  readonly rate: number;
  readonly kind: ConnectKind;
}

function run(name: ServerName, { seconds, profileDir }: Scale, say: Say, { format, rate, kind }: Kind): Promise<Values> {
  const isGuarded = kind !== "open";
  return withCrew(name, { reactors: 1, profileDir, isGuarded, flags: ["--handshakes-per-second", "0"] }, 0, async (crew) => {
    const crowd = new Crowd(crew.server, name === "flux" ? format : null, isGuarded);
    const count = Math.min(Math.round(rate * seconds), socketsMax);
    say("warming up", warmUpSockets / warmUpRate);
    const early = crowd.clients(warmUpSockets);
    await crowd.come(early, warmUpRate);
    await crowd.lose(early);
    let clients = crowd.clients(count);
    if (kind === "resume") {
      await crowd.come(clients, rate);
      clients = await crowd.lose(clients);
    }
    say(`connecting ${count} clients`, count / rate);
    await sleep(500);
    const first = read(crew);
    const [cpuBefore, sleepsBefore] = [cpuSeconds(crew.server.pid), sleepsOf(crew.server.pid)];
    const lateness = await crowd.come(clients, rate);
    const cpu = cpuSeconds(crew.server.pid) - cpuBefore;
    const sleeps = sleepsOf(crew.server.pid) - sleepsBefore;
    const { serverCores, loadCores, otherCores } = between(first, read(crew));
    const latency = createHistogram();
    for (const { tookMicros } of clients) latency.record(Math.max(1, tookMicros));
    const resumed = clients.filter((client) => client.isResumed).length;
    if (kind === "resume" && name === "flux" && resumed < count) throw new Error(`${resumed} of ${count} sessions were resumed`);
    crowd.end();
    return {
      cpuMicros: (cpu / count) * 1e6, sleeps: sleeps / count,
      p50: percentileMs(latency, 50), p99: percentileMs(latency, 99), latenessP99: percentileMs(lateness, 99),
      serverCores, loadCores, otherCores,
    };
  });
}

/** How often threads of the process went to sleep since they started. */
function sleepsOf(pid: number): number {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/task/${task}/status`, "latin1"))?.[1] ?? 0);
  }
  return sum;
}

class Crowd {
  readonly #server: ServerUnderTest;
  readonly #format: Format | null;
  readonly #isGuarded: boolean;
  readonly #read = new ReadBuffer();
  readonly #all: Client[] = [];
  /** Of the first client. The measurements of a run have addresses of their own. */
  #address = 1 + Math.floor(Math.random() * 0xff0000);
  #opened = 0;

  /** @param format null for the control */
  constructor(server: ServerUnderTest, format: Format | null, isGuarded: boolean) {
    this.#server = server;
    this.#format = format;
    this.#isGuarded = isGuarded;
  }

  /** Makes their tokens now, since that must not happen while connects are measured. */
  clients(count: number): Client[] {
    return Array.from({ length: count }, () => this.#client(null));
  }

  /** They lose their sockets. Returns them as they come back. */
  async lose(clients: readonly Client[]): Promise<Client[]> {
    for (const client of clients) client.close();
    await sleep(1000);
    return clients.map((client) => this.#client(client));
  }

  #client(before: Client | null): Client {
    const token = before?.token ?? (this.#isGuarded ? tokenFor(`bench-${process.pid}-${this.#all.length}`) : "");
    const client = new Client(this.#format, token, before?.session ?? null);
    this.#all.push(client);
    return client;
  }

  async come(clients: readonly Client[], rate: number): Promise<ReturnType<typeof createHistogram>> {
    const { host, port } = this.#server;
    const lateness = await pace({ rate, count: clients.length, startAt: micros() }, 200, (n) => {
      if (this.#opened++ % socketsPerAddress === 0) this.#address++;
      const localAddress = `127.${this.#address >> 16}.${(this.#address >> 8) & 255}.${this.#address & 255}`;
      clients[n]!.open({ host, port, localAddress }, this.#read);
    });
    const giveUpAt = performance.now() + answerMs;
    while (clients.some((client) => client.tookMicros === 0)) {
      const failed = clients.find(({ problem }) => problem !== "");
      if (failed !== undefined) throw new Error(failed.problem);
      if (performance.now() > giveUpAt) throw new Error("clients were not answered");
      await sleep(5);
    }
    return lateness;
  }

  end(): void {
    for (const client of this.#all) client.close();
  }
}

interface Session {
  readonly session: string;
  readonly token: string;
  readonly ticket: string;
  epoch: string;
  seq: number;
}

class Client implements Listener {
  readonly token: string;
  /** From the beginning of the connect to joined; 0: not yet. */
  tookMicros = 0;
  isResumed = false;
  problem = "";
  session: Session | null = null;
  readonly #format: Format | null;
  readonly #before: Session | null;
  #socket: ClientSocket | null = null;
  #beganAt = 0;
  #isClosed = false;

  constructor(format: Format | null, token: string, before: Session | null) {
    this.#format = format;
    this.token = token;
    this.#before = before;
  }

  open(to: { host: string; port: number; localAddress: string }, buffer: ReadBuffer): void {
    this.#beganAt = micros();
    const subprotocol = this.#format === null ? null : this.#format === "json" ? subprotocols.json : subprotocols.binary;
    const path = this.#format === null ? "/echo" : this.#before === null ? "/ws" : `/ws?resume=${this.#before.ticket}`;
    this.#socket = new ClientSocket({ ...to, path, subprotocol }, buffer, this);
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.close();
  }

  chunk(): void {}

  opened(): void {
    if (this.#format === null) return this.#done();
    const resume = this.#before === null ? undefined : { session: this.#before.session, token: this.#before.token, positions: [{ room, position: { epoch: this.#before.epoch, seq: this.#before.seq } }] };
    const hello: ClientFrame = { id: 1, hello: { version: protocolVersion, client: "flux-bench", token: this.token, ...(resume !== undefined && { resume }) } };
    const frames: ClientFrame[] = this.#before === null ? [hello, { id: 2, join: { room } }] : [hello];
    if (this.#format === "json") for (const frame of frames) this.#socket!.send(opcodes.text, Buffer.from(JSON.stringify(frame)));
    else this.#socket!.send(opcodes.binary, Buffer.concat(frames.map(encodeClientFrame)));
  }

  message(_opcode: number, bytes: Buffer, start: number, end: number): void {
    if (this.#format === "json") return this.#hear(JSON.parse(bytes.toString("utf8", start, end)) as ServerFrame);
    for (let at = start; at < end; ) {
      const next = at + 4 + bytes.readUInt32BE(at);
      this.#hear(decodeServerFrame(bytes, at + 4, next));
      at = next;
    }
  }

  #hear({ ready, joined, error }: ServerFrame): void {
    if (ready) {
      this.isResumed = ready.resumed === true;
      this.session = { session: ready.session ?? "", token: ready.resumeToken ?? "", ticket: ready.ticket ?? "", epoch: "", seq: 0 };
    }
    if (joined) {
      if (this.session !== null) Object.assign(this.session, { epoch: joined.position?.epoch ?? "", seq: Number(joined.position?.seq ?? 0) });
      this.#done();
    }
    if (error) this.problem = `${error.code}: ${error.text}`;
  }

  #done(): void {
    if (this.tookMicros === 0) this.tookMicros = Math.round(micros() - this.#beganAt);
  }

  closed(reason: string): void {
    if (!this.#isClosed) this.problem ||= `${reason}, ${Math.round((micros() - this.#beganAt) / 1000)} ms after it began, ${this.tookMicros === 0 ? "not answered" : "answered"}`;
  }
}
