/** The sockets of one load thread. */
import { setTimeout as sleep } from "node:timers/promises";
import { CentrifugoConversation } from "./centrifugo.ts";
import type { Conversation, Dialect, Ear, Format, Role } from "./conversation.ts";
import { FluxConversation } from "./flux.ts";
import { FluxJsonArraysConversation, FluxJsonConversation } from "./fluxjson.ts";
import { NatsConversation } from "./nats.ts";
import type { Target } from "./orders.ts";
import { PlainConversation, PlainTextConversation } from "./plain.ts";
import { ClientSocket, type Listener, ReadBuffer } from "./socket.ts";
import { SocketIoConversation } from "./socketio.ts";

const conversations: Record<Dialect, Record<Format, new (index: number, role: Role, ear: Ear) => Conversation>> = {
  flux: { binary: FluxConversation, json: FluxJsonConversation, "json-arrays": FluxJsonArraysConversation },
  plain: { binary: PlainConversation, json: PlainTextConversation, "json-arrays": PlainTextConversation },
  socketio: { binary: SocketIoConversation, json: SocketIoConversation, "json-arrays": SocketIoConversation },
  nats: { binary: NatsConversation, json: NatsConversation, "json-arrays": NatsConversation },
  centrifugo: { binary: CentrifugoConversation, json: CentrifugoConversation, "json-arrays": CentrifugoConversation },
};

/** Less than the 512 of a listen backlog, also when two threads connect at once. */
const inFlightMax = 128;
/** A patient socket that was refused comes again after this; all of them so often. */
const againMs = 50;
const refusedMax = 10_000;
/** A source address has 28,000 ports. */
const socketsPerAddress = 20_000;

/** Attempts of a socket in a storm, and the longest wait before the next. */
const attemptsMax = 20;
const retryMsMax = 2000;
const acknowledgedMsMax = 30_000;

/** The callbacks that a squad does not handle itself. */
export type DeliveryEar = Pick<Ear, "delivered"> & { chunk(): void };

export class Squad {
  readonly conversations: Conversation[] = [];
  readonly #sockets: ClientSocket[] = [];
  readonly #places: { target: Target; role: Role }[] = [];
  readonly #read = new ReadBuffer();
  readonly #delivery: DeliveryEar;
  readonly #onFailure: (error: Error) => void;
  #waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #closing = false;

  /** @param onFailure called when a ready socket is lost or the server rejects something */
  constructor(delivery: DeliveryEar, onFailure: (error: Error) => void) {
    this.#delivery = delivery;
    this.#onFailure = onFailure;
  }

  /** @param patient a socket that is closed with 3014 (come back later) is tried again. @returns how often one was */
  async connect(target: Target, role: Role, count: number, patient = false): Promise<number> {
    let refused = 0;
    const first = this.conversations.length;
    // Ports of an earlier run's address stay in use for a minute, so every connect uses an address of its own.
    const network = `127.${randomOctet()}.${randomOctet()}`;
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < count) {
        const n = next++;
        const address = `${network}.${1 + Math.floor(n / socketsPerAddress)}`;
        while (!(await this.#opened(first + n, target, role, address, patient && refused < refusedMax))) {
          refused++;
          await sleep(againMs);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(count, inFlightMax) }, lane));
    return refused;
  }

  /** False: it was refused for now. */
  async #opened(index: number, target: Target, role: Role, localAddress: string, patient: boolean): Promise<boolean> {
    try {
      await this.#open(index, target, role, localAddress);
      return true;
    } catch (error) {
      if (patient && String(error).includes(" 3014 ")) return false;
      throw error;
    }
  }

  /** Drops all sockets at once. They reconnect spread over `withinSeconds`. */
  async storm(withinSeconds: number): Promise<{ resumed: number; refused: number; triedSeconds: number; seconds: number }> {
    const before = this.conversations.map(({ resumed = 0 }) => resumed);
    // Sockets that are not listed do not count as lost.
    const lost = this.#sockets.splice(0);
    const count = lost.length;
    for (const socket of lost) socket.close();
    const network = `127.${randomOctet()}.${randomOctet()}`;
    const startedAt = performance.now();
    const coming: Promise<void>[] = [];
    const refusals: Record<string, number> = {};
    for (let n = 0; n < count; n++) {
      const wait = (n / count) * withinSeconds * 1000 - (performance.now() - startedAt);
      if (wait > 0) await sleep(wait);
      const { target, role } = this.#places[n]!;
      coming.push(this.#comeBack(n, target, role, `${network}.${1 + Math.floor(n / socketsPerAddress)}`, refusals));
    }
    const triedSeconds = (performance.now() - startedAt) / 1000;
    await Promise.all(coming);
    const seconds = (performance.now() - startedAt) / 1000;
    const resumed = this.conversations.filter(({ resumed = 0 }, i) => resumed > before[i]!).length;
    return { resumed, triedSeconds, seconds, refused: Object.values(refusals).reduce((sum, count) => sum + count, 0) };
  }

  /** Like a client: after a rejection it waits and tries again. */
  async #comeBack(index: number, target: Target, role: Role, localAddress: string, refusals: Record<string, number>): Promise<void> {
    for (let attempt = 1; attempt <= attemptsMax; attempt++) {
      try {
        return await this.#open(index, target, role, localAddress);
      } catch (error) {
        const reason = String(error).replace(/.*socket \d+: /, "");
        refusals[reason] = (refusals[reason] ?? 0) + 1;
        await sleep(Math.random() * retryMsMax);
      }
    }
  }

  /** Resolves when every publication is acknowledged. */
  async acknowledged(): Promise<void> {
    const until = performance.now() + acknowledgedMsMax;
    while (this.conversations.some(({ unacknowledged = 0 }) => unacknowledged > 0)) {
      if (performance.now() > until) throw new Error("publications were not acknowledged");
      await sleep(5);
    }
  }

  /** While stalled, nothing is read, so the servers' writes queue up. */
  stall(stalled: boolean): void {
    for (const socket of this.#sockets) socket.stall(stalled);
  }

  close(): void {
    this.#closing = true;
    for (const socket of this.#sockets) socket.close();
  }

  #open(index: number, target: Target, role: Role, localAddress: string): Promise<void> {
    const conversation = (this.conversations[index] ??= new conversations[target.dialect][target.format](index, role, this.#ear));
    this.#places[index] = { target, role };
    const { path, subprotocol } = conversation;
    return new Promise((resolve, reject) => {
      this.#waiting.set(index, { resolve, reject });
      const listener: Listener = {
        chunk: () => this.#delivery.chunk(),
        opened: () => conversation.begin(socket),
        message: (opcode, bytes, start, end) => conversation.hear(opcode, bytes, start, end),
        closed: (reason) => this.#sockets[index] === socket && this.#failed(index, reason),
      };
      const address = { host: target.host, port: target.port, path, localAddress, subprotocol };
      const socket = new ClientSocket(address, this.#read, listener);
      this.#sockets[index] = socket;
    });
  }

  readonly #ear: Ear = {
    ready: (index) => {
      this.#waiting.get(index)?.resolve();
      this.#waiting.delete(index);
    },
    delivered: (index, counter, sentAt, chained) => this.#delivery.delivered(index, counter, sentAt, chained),
    refused: (index, text) => this.#failed(index, text),
  };

  #failed(index: number, reason: string): void {
    if (this.#closing) return;
    const error = new Error(`socket ${index}: ${reason}`);
    const waiting = this.#waiting.get(index);
    if (waiting === undefined) return this.#onFailure(error);
    this.#waiting.delete(index);
    waiting.reject(error);
  }
}

function randomOctet(): number {
  return 1 + Math.floor(Math.random() * 254);
}
