/** The scripted node: a WebSocket server on which each situation has a path, `/NAME/ws`. */
import uWS, { type HttpRequest, type HttpResponse, type us_listen_socket, type us_socket_context_t } from "uWebSockets.js";
import { subprotocols } from "../protocol/messages.ts";
import { Peer, type PeerData } from "./peer.ts";
import { commands } from "./situations/commands.ts";
import { lists } from "./situations/lists.ts";
import { order } from "./situations/order.ts";
import { recovery } from "./situations/recovery.ts";
import { sessions } from "./situations/sessions.ts";
import { Failure } from "./failure.ts";
import type { Result, Situation } from "./situation.ts";
import { Stage } from "./stage.ts";
import { frameBytesMax, type FormatName } from "./wire.ts";

export const situations: readonly Situation[] = [...order, ...recovery, ...sessions, ...commands, ...lists];

export interface KitOptions {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** Time for each step of the client. */
  readonly timeoutMs: number;
  /** Time in which a client that has to stay away must not connect. */
  readonly quietMs: number;
  /** Factor for the waits that the node asks for. More than 1: a client that does not wait is found on a busy machine, too. */
  readonly patience?: number;
  /** False: like nodes that do not know flux.v1.json-arrays. */
  readonly arrays?: boolean;
}

export interface Kit {
  readonly port: number;
  /** Where a driver connects to for a situation. */
  url(situation: Situation): string;
  /** Plays a situation with the client that connects to its URL. Once at a time for each situation. */
  play(situation: Situation): Promise<Result>;
  /** The same, however long it takes until a client connects. */
  playNext(situation: Situation): Promise<Result>;
  /** The client of a situation that is being played has ended. */
  gone(situation: Situation, why: string): void;
  close(): void;
}

/** Behind the end of a situation the client has nothing to do here: a code after which it does not come back. */
const over = { code: 4999, reason: "the situation is over" };

/** @throws Error where the port cannot be had */
export async function startKit({ host, port: wanted, timeoutMs, quietMs, patience = 1, arrays = true }: KitOptions): Promise<Kit> {
  const stages = new Map<string, Stage>();
  const known = new Map<string, FormatName>([[subprotocols.binary, "protobuf"], [subprotocols.json, "JSON"], ...(arrays ? [[subprotocols.jsonArrays, "JSON arrays"] as const] : [])]);
  const app = uWS.App();
  app.ws<PeerData>("/*", {
    maxPayloadLength: 4 * frameBytesMax,
    idleTimeout: 0,
    sendPingsAutomatically: false,
    upgrade: (res, req, context) => upgrade(stages, known, res, req, context),
    open(socket) {
      const data = socket.getUserData();
      const stage = stages.get(data.situation);
      if (stage === undefined) return void socket.end(over.code, over.reason);
      data.peer = new Peer(stage.nextNumber(), socket, (line) => stage.note(line));
      stage.onSocket(data.peer);
    },
    message(socket, message, isBinary) {
      const { situation, peer } = socket.getUserData();
      // Copied: uWS takes the bytes away when this returns.
      if (peer !== null && !peer.isOver) stages.get(situation)?.onMessage(peer, new Uint8Array(message).slice(), isBinary);
    },
    close(socket, code) {
      const { situation, peer } = socket.getUserData();
      if (peer !== null) stages.get(situation)?.onClose(peer, code);
    },
  });
  const listening = await new Promise<us_listen_socket | false>((resolve) => app.listen(host, wanted, resolve));
  if (!listening) throw new Error(`cannot listen on ${host}:${wanted}: another program has the port, or it is not yours to take`);
  const port = uWS.us_socket_local_port(listening);
  const shown = host === "0.0.0.0" ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host;
  const base = (situation: Situation) => `ws://${shown}:${port}/${situation.name}`;

  const play = async (situation: Situation, waits = false): Promise<Result> => {
    const stage = new Stage(base(situation), { timeoutMs, quietMs, patience });
    stages.set(situation.name, stage);
    if (waits) await stage.someone();
    const result = await playWith(stage, situation);
    stages.delete(situation.name);
    stage.end(over.code, over.reason);
    return result;
  };

  return {
    port,
    url: (situation) => `${base(situation)}/ws`,
    play: (situation) => play(situation),
    playNext: (situation) => play(situation, true),
    gone: (situation, why) => stages.get(situation.name)?.onGone(why),
    close: () => app.close(),
  };
}

async function playWith(stage: Stage, situation: Situation): Promise<Result> {
  let fault = "";
  try {
    await situation.play(stage);
    stage.reports.end();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    fault = error.message;
  }
  const { advice, trace, format } = stage;
  return { situation, outcome: fault === "" ? "passed" : "failed", fault, advice, format, trace };
}

function upgrade(stages: ReadonlyMap<string, Stage>, known: ReadonlyMap<string, FormatName>, res: HttpResponse, req: HttpRequest, context: us_socket_context_t): void {
  const [, situation = "", ...path] = req.getUrl().split("/");
  if (stages.get(situation)?.refusesUpgrade()) return void res.writeStatus("503 Service Unavailable").writeHeader("Retry-After", "1").end();
  const offered = req.getHeader("sec-websocket-protocol").split(",").map((one) => one.trim());
  const chosen = offered.find((one) => known.has(one)) ?? "";
  const data: PeerData = { peer: null, situation, path: `/${path.join("/")}`, ticket: req.getQuery("resume") ?? "", format: known.get(chosen) ?? "protobuf" };
  res.upgrade(data, req.getHeader("sec-websocket-key"), chosen, req.getHeader("sec-websocket-extensions"), context);
}
