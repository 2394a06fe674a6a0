/**
 * Users with several devices each, who write to each other directly, through whatever happens to the nodes: every device
 * is a member of its user's inbox in the history, which is judged at the end.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { FluxError, type Client, type ClientOptions } from "../../src/client/index.ts";
import { createHistory, type History, type Position } from "./history.ts";
import { startClient } from "./sdk.ts";
import { token } from "./tokens.ts";
import { until } from "./until.ts";
import type { Verdict } from "./verdict.ts";

export interface MailOptions {
  readonly secret: string;
  readonly users: number;
  readonly devices: number;
  /** Time between two messages to one user. Default: 50 ms. */
  readonly everyMs?: number;
  readonly options?: ClientOptions;
  readonly onDelivered?: (device: string) => void;
}

export interface Mail {
  readonly names: readonly string[];
  readonly history: History;
  readonly clients: readonly Client[];
  /** Messages acknowledged so far, and gaps that devices were told of. */
  readonly acknowledged: number;
  readonly gaps: number;
  /** Waits until every device of every user was given a message that was sent from now on. */
  round(limitMs?: number): Promise<void>;
  /** Stops writing, waits until every device has everything, and judges. */
  stop(): Promise<Verdict>;
}

const limitMs = 180_000;

export async function startMail(t: Pick<Test, "teardown">, url: string, { secret, users, devices, everyMs = 50, options = {}, onDelivered }: MailOptions): Promise<Mail> {
  const history = createHistory();
  let stopping = false;
  let acknowledged = 0;
  let gaps = 0;
  t.teardown(() => void (stopping = true));
  const people = await Promise.all(Array.from({ length: users }, async (_, i) => {
    const name = `user-${i}`;
    const signed = await token({ sub: name }, secret);
    const of = Array.from({ length: devices }, (_, d) => {
      const client = startClient(t, url, { storage: null, commandTimeoutMs: limitMs, token: () => signed, device: `d${d}`, backoff: { baseMs: 50, capMs: 500 }, ...options });
      return { client, name: `${name} d${d}`, last: -1, seq: 0 };
    });
    return { name, devices: of, sent: 0, begun: null as Position | null };
  }));
  type Person = (typeof people)[number];
  const inboxOf = ({ name }: Person) => `inbox of ${name}`;

  const write = async (to: Person): Promise<boolean> => {
    const from = people[(people.indexOf(to) + 1) % people.length]!;
    const id = String(to.sent++);
    history.attempted(inboxOf(to), id);
    try {
      const position = await from.devices[to.sent % devices]!.client.send(to.name, id);
      history.acknowledged(inboxOf(to), id, position);
      to.begun ??= position;
      acknowledged++;
      return true;
    } catch (error) {
      if (!(error instanceof FluxError)) throw error;
      if (error.code !== "timeout") history.refused(inboxOf(to), id, error.code);
      return false;
    }
  };
  const begin = async (person: Person): Promise<void> => {
    while (person.begun === null && !stopping) if (!(await write(person))) await sleep(everyMs);
    const { epoch, seq } = person.begun ?? { epoch: "", seq: 0 };
    for (const device of person.devices) {
      device.seq = seq - 1;
      history.joined(inboxOf(person), device.name, { epoch, seq: seq - 1 });
      device.client.inbox.on("gap", ({ from, to }) => {
        gaps++;
        device.seq = to.seq;
        history.gap(inboxOf(person), device.name, from, to, "sync");
      });
      device.client.onMessage(({ data, position }) => {
        history.delivered(inboxOf(person), device.name, String(data), position, device.seq);
        device.seq = position.seq;
        device.last = Number(data);
        onDelivered?.(device.name);
      });
    }
  };
  await Promise.all(people.map(begin));
  const writing = Promise.all(people.map(async (person) => {
    while (!stopping) {
      await write(person);
      await sleep(everyMs);
    }
  }));
  const arrived = (person: Person, id: number): boolean => person.devices.every(({ last }) => last >= id);
  return {
    names: people.map(({ name }) => name),
    history,
    clients: people.flatMap((person) => person.devices.map(({ client }) => client)),
    get acknowledged() { return acknowledged; },
    get gaps() { return gaps; },
    round: async (within = limitMs) => {
      const goals = people.map(({ sent }) => sent);
      await until(() => people.every((person, i) => arrived(person, goals[i]!)), "a message on every device", within);
    },
    stop: async () => {
      stopping = true;
      await writing;
      for (const person of people) while (!(await write(person))) await sleep(everyMs);
      await until(() => people.every((person) => arrived(person, person.sent - 1)), "the last message on every device", limitMs);
      return history.judge();
    },
  };
}
