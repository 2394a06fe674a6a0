/**
 * A load thread with members that use the SDK, as in tests (test/support/population.ts). They connect to the nodes
 * directly, in turn: a load balancer would cost more than the members.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parentPort } from "node:worker_threads";
import { WebSocket } from "ws";
import type { Client } from "../../src/client/index.ts";
import type { HistoryEvent } from "../../test/support/history.ts";
import { startPopulation, type Population, type PopulationOptions } from "../../test/support/population.ts";
import { micros } from "./clock.ts";
import type { Request, Response } from "./orders.ts";

export type MembersOrder =
  /** Done when every one of them is in the room. */
  | { kind: "connect"; ports: readonly number[]; options: Omit<PopulationOptions, "WebSocket"> }
  | { kind: "progress"; publications: number }
  /** Announces the node that will be killed, and the nodes that remain. */
  | { kind: "lose"; node: string; ports: readonly number[] }
  /** Done when every session is on another node. */
  | { kind: "return"; withinSeconds: number }
  | { kind: "halt" }
  | { kind: "publishLast" }
  | { kind: "reached"; last: string }
  | { kind: "history" };

export type MembersAnswers = {
  connect: null;
  progress: null;
  /** Number of sessions on that node. */
  lose: { moving: number };
  /**
   * Time of the last reconnect in micros. Times at which the nodes accepted sessions since `lose`, by the node's clock
   * in `ready`, in milliseconds since 1970. Number of sessions that were not resumed.
   */
  return: { at: number; accepted: readonly number[]; begunAnew: number };
  halt: null;
  publishLast: string;
  reached: null;
  history: { events: readonly HistoryEvent[]; gaps: number };
};

const lookMs = 10;

let population: Population | null = null;
let ports: readonly number[] = [];
let turn = 0;
let lost = "";
let accepted: number[] = [];
let begunAnew = 0;

class ToNextNode extends WebSocket {
  constructor(url: string, protocols?: string | string[]) {
    const address = new URL(url);
    address.port = String(ports[turn++ % ports.length]!);
    super(address, protocols);
  }
}

parentPort?.on("message", ({ id, order }: Request<MembersOrder>) => {
  const respond = (response: Response<unknown>) => parentPort?.postMessage(response);
  obey(order).then(
    (answer) => respond({ id, answer }),
    (error: unknown) => respond({ id, error: error instanceof Error ? error.message : String(error) }),
  );
});

async function obey(order: MembersOrder): Promise<MembersAnswers[MembersOrder["kind"]]> {
  if (order.kind === "connect") {
    ({ ports } = order);
    turn = order.options.first ?? 0;
    // What was started ends with the thread.
    population = await startPopulation({ teardown() {} }, `ws://127.0.0.1:${ports[0]}/ws`, { ...order.options, WebSocket: ToNextNode });
    return null;
  }
  if (population === null) throw new Error("no members are connected yet");
  const { clients, history, gaps } = population;
  switch (order.kind) {
    case "progress":
      await population.progress(order.publications);
      return null;
    case "lose":
      ({ ports, node: lost } = order);
      accepted = [];
      for (const client of clients) {
        client.on("ready", ({ resumed, time }) => {
          accepted.push(time.getTime());
          if (!resumed) begunAnew++;
        });
      }
      return { moving: clients.filter(isThere).length };
    case "return": {
      const giveUpAt = performance.now() + order.withinSeconds * 1000;
      while (!clients.every((client) => client.state === "ready" && !isThere(client)) && performance.now() < giveUpAt) await sleep(lookMs);
      return { at: micros(), accepted, begunAnew };
    }
    case "halt":
      await population.halt();
      return null;
    case "publishLast":
      return population.publishLast();
    case "reached":
      await population.reached(order.last);
      return null;
    case "history":
      return { events: history.events, gaps };
  }
}

function isThere({ session }: Client): boolean {
  return session?.node === lost;
}
