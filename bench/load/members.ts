/**
 * A load thread of members who use the SDK, as tests know them (test/support/population.ts). They connect to nodes by
 * themselves, each to the next in turn: what stands in front of nodes would have more to do than the members.
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
  /** This node is going to be lost, and these will be left. */
  | { kind: "lose"; node: string; ports: readonly number[] }
  /** Done when everybody has a session at another. */
  | { kind: "return"; withinSeconds: number }
  | { kind: "halt" }
  | { kind: "publishLast" }
  | { kind: "reached"; last: string }
  | { kind: "history" };

export type MembersAnswers = {
  connect: null;
  progress: null;
  /** How many have their session there. */
  lose: { moving: number };
  /**
   * When the last was back, micros. When each session since `lose` was accepted, by the clock of the node that did, as `ready`
   * says: milliseconds since 1970. Sessions that were not resumed.
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
  if (population === null) throw new Error("nobody is there yet");
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
