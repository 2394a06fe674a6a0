/**
 * Plays one situation with one client: waits for its sockets and commands, answers what the script does not care
 * about, and compares what the driver reports with what it has to be. A wrong step fails at once, with a sentence.
 */
import { protocolVersion, type ClientFrame, type CommandKind, type Ready, type ServerFrame } from "../protocol/messages.ts";
import { kindOf, type Peer } from "./peer.ts";
import { Expected, readReport, type Report } from "./reports.ts";
import { Failure } from "./failure.ts";
import { frameBytesMax, show } from "./wire.ts";
import { epoch, head, inbox, logRoom, publication, room } from "./words.ts";

type Wait = { readonly test: () => boolean; readonly resolve: () => void };
/** Returns the answer, or undefined for the usual one. Null: no answer. */
export type LogScript = (command: ClientFrame, peer: Peer) => ServerFrame | null | undefined;

const traceMax = 40;

export class Stage {
  readonly trace: string[] = [];
  readonly advice: string[] = [];
  readonly reports = new Expected();
  /** Where clients connect, for `reconnect`: `ws://127.0.0.1:9000/drain`. */
  readonly url: string;
  readonly #quietMs: number;
  /** Factor for the waits that the script asks the client for. */
  readonly patience: number;
  /** That of the last socket; "" before the first. */
  format = "";
  readonly #timeoutMs: number;
  readonly #arrived: Peer[] = [];
  readonly #pending: { peer: Peer; command: ClientFrame }[] = [];
  readonly #loggedKeys = new Set<string>();
  #log: LogScript = () => undefined;
  /** Commands that the script answers; else they get the usual answer. */
  readonly #held = new Set<CommandKind>();
  #logged = 0;
  readonly #peers: Peer[] = [];
  #refusals = 0;
  #waits: Wait[] = [];
  /** Ends the time for which a client that has to stay away is watched. */
  #endWatch: (() => void) | null = null;
  #failure: Failure | null = null;
  #reject: (failure: Failure) => void = () => {};
  readonly #failed: Promise<never>;

  constructor(url: string, { timeoutMs, quietMs, patience }: { timeoutMs: number; quietMs: number; patience: number }) {
    this.url = url;
    this.patience = patience;
    this.#quietMs = quietMs;
    this.#timeoutMs = timeoutMs;
    this.#failed = new Promise((_, reject) => (this.#reject = reject));
    this.#failed.catch(() => {});
  }

  nextNumber(): number {
    return this.#peers.length + 1;
  }

  /** Answers the next upgrades with 503. */
  refuseUpgrades(n: number): void {
    this.#refusals = n;
  }

  refusesUpgrade(): boolean {
    if (this.#refusals === 0) return false;
    this.#refusals--;
    this.note("an upgrade is answered with 503");
    return true;
  }

  /** Resolves when the first client has connected. */
  someone(): Promise<void> {
    return new Promise((resolve) => this.#waits.push({ test: () => this.#arrived.length > 0, resolve }));
  }

  /** No client will connect any more. That is right where it has to stay away. */
  onGone(why: string): void {
    if (this.#endWatch !== null) this.#endWatch();
    else this.fail(new Failure(why));
  }

  /** Ends the script, wherever it waits. */
  fail(failure: Failure): void {
    this.#failure ??= failure;
    this.#reject(this.#failure);
  }

  /** Closes what is open. */
  end(code: number, reason: string): void {
    for (const peer of this.#peers) peer.close(code, reason);
  }

  note(line: string): void {
    this.trace.push(line);
    if (this.trace.length > traceMax) this.trace.shift();
  }

  // ------------------------------------------------------------ what the server tells

  onSocket(peer: Peer): void {
    this.note(`socket ${peer.number}: ${peer.path}, ${peer.format}`);
    this.format = peer.format;
    this.#peers.push(peer);
    this.#arrived.push(peer);
    this.#look();
  }

  onMessage(peer: Peer, message: Uint8Array, isBinary: boolean): void {
    this.#guard(() => {
      for (const command of peer.reader.read(message, isBinary)) {
        this.note(`→ ${show(command)}`);
        this.#onCommand(peer, command);
      }
    });
  }

  onClose(peer: Peer, code: number): void {
    if (!peer.isOver) {
      peer.ending = { code };
      this.note(`the client closes socket ${peer.number} with ${code}`);
    }
    this.#look();
  }

  // ------------------------------------------------------------ for scripts: sockets

  /** The next socket of the client, before its hello. */
  async connect(why: string): Promise<Peer> {
    await this.until(() => this.#arrived.length > 0, why);
    return this.#arrived.shift()!;
  }

  /** Its first socket, its session, and its room: the room's head is `head`. */
  async enter(ready: Ready = {}): Promise<Peer> {
    const { peer } = await this.greet("The client did not connect.", ready);
    const join = await this.take(peer, "join", `The client did not join ${room}.`);
    if (join.join?.recover) throw new Failure(`The client joined ${room} with recover, but it has no position yet.`);
    peer.reply(join, { joined: { room, position: { epoch, seq: head }, recovered: false } });
    return peer;
  }

  /** The next socket and its hello, answered with ready. */
  async greet(why: string, ready: Ready = {}): Promise<{ peer: Peer; hello: NonNullable<ClientFrame["hello"]> }> {
    const { peer, command, hello } = await this.hello(why);
    this.welcome(peer, command, ready);
    return { peer, hello };
  }

  /** The next socket and its hello, without an answer. */
  async hello(why: string): Promise<{ peer: Peer; command: ClientFrame; hello: NonNullable<ClientFrame["hello"]> }> {
    const peer = await this.connect(why);
    await this.until(() => this.#pending.some((one) => one.peer === peer) || peer.isOver, "The client opened a socket and sent no hello.");
    const command = this.#pending.find((one) => one.peer === peer)?.command;
    if (command?.hello == null) throw new Failure(`The first frame has to be hello. The client ${command === undefined ? "closed the socket" : `sent ${kindOf(command) || "an empty frame"}`}.`);
    this.#forget(command);
    const { hello } = command;
    if (hello.version !== protocolVersion) throw new Failure(`hello names version ${hello.version ?? 0} of the protocol. It has to be ${protocolVersion}.`);
    return { peer, command, hello };
  }

  welcome(peer: Peer, hello: ClientFrame, ready: Ready = {}): void {
    const session = `session-${peer.number}`;
    const limits = { heartbeatMs: 25_000, maxFrameBytes: frameBytesMax, maxRooms: 100, maxRoomNameBytes: 255, commandsPerSecond: 500, sessionTtlMs: 120_000 };
    const own = { session, user: "ann", node: "scripted", version: protocolVersion, time: Date.now(), resumeToken: `resume-${peer.number}`, ticket: `ticket-${peer.number}` };
    peer.reply(hello, { ready: { ...limits, ...own, resumed: false, rooms: [], expires: 0, returnWindowMs: 0, returnPlace: 0, ...ready } });
  }

  /** The next socket, which has to resume the session of `before`. Answered: resumed, and the room as `joined` has it. */
  async comeBack(before: Peer, why: string, joined: ServerFrame["joined"] = { room, position: { epoch, seq: head }, recovered: true }, ready: Ready = {}): Promise<Peer> {
    const { peer, command, hello } = await this.hello(why);
    this.checkResume(hello.resume, before);
    const session = hello.resume?.session ?? "";
    this.welcome(peer, command, { session, resumed: true, rooms: [room], ...ready });
    peer.send({ joined });
    return peer;
  }

  checkResume(resume: NonNullable<ClientFrame["hello"]>["resume"], { number }: Peer, token = `resume-${number}`, session = `session-${number}`): void {
    if (resume == null) throw new Failure(`The client began a new session. It has to resume: hello {resume: {session: "${session}", token: "${token}", positions}}.`);
    if (resume.session !== session) throw new Failure(`hello resumes the session ${JSON.stringify(resume.session)}. The newest one is "${session}".`);
    if (resume.token !== token) throw new Failure(`hello resumes with the token ${JSON.stringify(resume.token)}. The newest one is "${token}".`);
  }

  /** The client's position in the room, in `hello.resume` or in a join. */
  checkPosition(position: { epoch?: string | null; seq?: number | null } | null | undefined, seq: number, where: string): void {
    if (position == null) throw new Failure(`${where} has no position of ${room}. The client's is ${seq}.`);
    if (position.epoch !== epoch || position.seq !== seq) throw new Failure(`${where} has the position ${position.seq ?? 0} of epoch ${JSON.stringify(position.epoch ?? "")}. The last publication that the client delivered is ${seq} of "${epoch}".`);
  }

  // ------------------------------------------------------------ for scripts: commands

  /** The next command of this kind from this socket. */
  async take(peer: Peer, kind: CommandKind, why: string): Promise<ClientFrame> {
    const find = () => this.#pending.find((one) => one.peer === peer && one.command[kind] != null)?.command;
    await this.until(() => find() !== undefined || peer.isOver, why);
    const command = find();
    if (command === undefined) throw new Failure(`${why} It closed the socket instead (${peer.ending?.code ?? 0}).`);
    this.#forget(command);
    return command;
  }

  /** `history {since: seq}`, answered with these publications of the room or with an error. */
  async history(peer: Peer, since: number, answer: readonly number[] | "unrecoverable_position", why: string): Promise<void> {
    const command = await this.take(peer, "history", why);
    this.checkPosition(command.history?.since, since, "history {since}");
    if (answer === "unrecoverable_position") return peer.reply(command, { error: { code: answer, text: "the history no longer covers this position", retryable: false } });
    const publications = answer.map((seq) => publication(seq));
    peer.reply(command, { history: { room, position: { epoch, seq: answer.at(-1) ?? since }, publications, more: false } });
  }

  /** From now on the script takes these commands. */
  holds(...kinds: readonly CommandKind[]): void {
    for (const kind of kinds) this.#held.add(kind);
  }

  /** Replaces the answers to the driver's reports. */
  onLog(script: LogScript): void {
    this.#log = script;
  }

  // ------------------------------------------------------------ for scripts: reports

  expect(...reports: readonly (number | Report)[]): void {
    this.#guard(() => this.reports.expect(...reports.map((one): Report => (typeof one === "number" ? { kind: "publication", seq: one, data: { n: one } } : one))));
  }

  /** Waits until all that is expected has been reported. Meanwhile nothing may be asked for, and no socket lost. */
  async delivered(peer: Peer): Promise<void> {
    await this.until(() => {
      const asked = this.#pending.find((one) => one.peer === peer && (one.command.history != null || one.command.join?.room === room));
      if (asked !== undefined) throw new Failure(`The client asked for ${show(asked.command)}, but nothing was missing.`);
      if (peer.ending !== null) throw new Failure(`The client closed the socket (${peer.ending.code}). Nothing was wrong with it.`);
      return this.reports.isComplete;
    }, () => `The client did not deliver ${this.reports.missing}.`);
  }

  // ------------------------------------------------------------ waiting

  /** @param why what the client did not do, in case it does not */
  async until(test: () => boolean, why: string | (() => string)): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const held = new Promise<void>((resolve) => this.#waits.push({ test, resolve }));
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Failure(`${typeof why === "string" ? why : why()} It had ${this.#timeoutMs / 1000} s.`)), this.#timeoutMs);
    });
    this.#look();
    try {
      await Promise.race([held, late, this.#failed]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits `quietMs`, and fails where the client connects meanwhile. */
  staysAway(why: string): Promise<void> {
    return this.#never(() => this.#arrived.length > 0, why);
  }

  /** Waits `quietMs`, and fails where the client joins the room meanwhile. */
  staysOut(peer: Peer, why: string): Promise<void> {
    return this.#never(() => this.#pending.some((one) => one.peer === peer && one.command.join != null), why);
  }

  /** Waits `quietMs` for what the answers to reports find wrong. */
  watch(): Promise<void> {
    return this.#never(() => false, "");
  }

  async #never(test: () => boolean, why: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const happened = new Promise<never>((_, reject) => this.#waits.push({ test, resolve: () => reject(new Failure(why)) }));
    this.#look();
    try {
      const over = new Promise<void>((resolve) => {
        this.#endWatch = resolve;
        timer = setTimeout(resolve, this.#quietMs);
      });
      await Promise.race([over, happened, this.#failed]);
    } finally {
      this.#endWatch = null;
      clearTimeout(timer);
    }
  }

  #look(): void {
    this.#guard(() => {
      for (const wait of [...this.#waits]) {
        if (!wait.test()) continue;
        this.#waits = this.#waits.filter((one) => one !== wait);
        wait.resolve();
      }
    });
  }

  /** The first failure ends the script, wherever it waits. */
  #guard(run: () => void): void {
    if (this.#failure !== null) return;
    try {
      run();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.fail(error);
    }
  }

  // ------------------------------------------------------------ what the client sends

  #onCommand(peer: Peer, command: ClientFrame): void {
    const kind = kindOf(command);
    if (kind === "") throw new Failure("The client sent a frame without a command.");
    if (kind === "publish" && command.publish?.room === logRoom) return this.#onLog(peer, command);
    if (kind === "bye") return peer.close(1000, "bye");
    const answer = this.#held.has(kind) ? undefined : usual(command);
    if (answer !== undefined) return kind === "ack" ? undefined : peer.reply(command, answer);
    this.#pending.push({ peer, command });
    this.#look();
  }

  #onLog(peer: Peer, command: ClientFrame): void {
    const report = readReport(command);
    // Lists of members come when they come. Scripts count on the order of the other reports.
    const answer = report.kind === "members" ? undefined : this.#log(command, peer);
    const key = command.publish?.key ?? "";
    const isNew = key === "" || !this.#loggedKeys.has(key);
    const isAccepted = answer === undefined || answer?.published != null;
    if (isNew && isAccepted) {
      this.#loggedKeys.add(key);
      this.reports.add(report);
    }
    if (answer !== null) peer.reply(command, answer ?? { published: { position: { epoch: "log", seq: ++this.#logged }, receivers: 0, duplicate: !isNew } });
    this.#look();
  }

  #forget(command: ClientFrame): void {
    this.#pending.splice(this.#pending.findIndex((one) => one.command === command), 1);
  }
}

/** Answers to what no script cares about. */
function usual(command: ClientFrame): ServerFrame | undefined {
  if (command.echo) return { echo: command.echo };
  if (command.leave) return { left: { room: command.leave.room ?? "" } };
  if (command.watch) return { watched: { statuses: (command.watch.users ?? []).map((user) => ({ user, online: false, lastSeen: 0 })) } };
  if (command.unwatch) return { watched: {} };
  if (command.ping) return { pong: { time: command.ping.time ?? 0, serverTime: Date.now() } };
  if (command.presence) return { presence: { room, version: 1, users: 1, sessions: 1, members: [{ user: "ann", sessions: 1 }], next: "" } };
  if (command.ack) return {};
  if (command.join?.room === inbox) return { joined: { room: inbox, position: { epoch: "i1", seq: command.join.recover?.seq ?? 0 }, recovered: command.join.recover != null } };
  if (command.join && command.join.room !== room) return { error: { code: "forbidden", text: `drivers join ${room} only`, retryable: false } };
  return undefined;
}
