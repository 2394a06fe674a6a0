/**
 * Webhooks: tell the application's backend what has happened. Facts wait in lists (facts.ts); here they leave, each to
 * every endpoint that wants it, at least once.
 */
import type { Config } from "../config/config.ts";
import { namespaceOf } from "../config/roomnames.ts";
import { kindsOf } from "../config/told.ts";
import type { DeadLetter, Facts, Subject } from "../facts/facts.ts";
import { Backend } from "../hooks/backend.ts";
import { Signer } from "../hooks/signature.ts";
import type { Logger } from "../platform/log/log.ts";
import { publicConnector } from "./addresses.ts";
import { Endpoint } from "./endpoint.ts";
import type { WebhookQueue, WebhookUsage } from "../metrics/webhooks.ts";
import { QueueBound } from "./bound.ts";
import { Teller } from "./teller.ts";

export interface WebhooksOptions {
  readonly config: Config;
  readonly version: string;
  readonly facts: Facts;
  readonly log: Logger;
  /** No endpoint has facts of the subject to be told any more. */
  onTold(subject: Subject): void;
}

/** Bytes of an answer's body: nobody reads it. */
const answerBytesMax = 262_144;
/** So many rooms and users of each endpoint are counted again at once, and so often. */
const recountMax = 2_000;
const recountMs = 1_000;

export class Webhooks {
  readonly #options: WebhooksOptions;
  readonly #tellers: readonly { readonly endpoint: Endpoint; readonly teller: Teller }[];
  readonly #bound: QueueBound;
  readonly #recounting: NodeJS.Timeout;

  constructor(options: WebhooksOptions) {
    this.#options = options;
    const { config, facts, log } = options;
    this.#tellers = Object.keys(config.webhooks).map((name) => {
      const endpoint = endpointOf(name, options);
      const teller = new Teller({
        endpoint, facts, log, connectionsMax: config.webhookConnectionsMax, giveUpMs: config.webhookGiveUpMs,
        onTold: (subject) => {
          if (!this.has(subject)) options.onTold(subject);
        },
      });
      return { endpoint, teller };
    });
    const { webhookEventsMax: eventsMax, webhookEventsBytesMax: bytesMax } = config;
    this.#bound = new QueueBound({ eventsMax, bytesMax, log, waiting: () => facts.usage() ?? this.#waiting() });
    this.#recounting = setInterval(() => this.#recount(), recountMs).unref();
  }

  /** Tells what is left of the time before. An endpoint that answered 410 stays disabled, also after a restart, until its URL changes. */
  async start(): Promise<void> {
    const { log, facts } = this.#options;
    for (const { endpoint, teller } of this.#tellers) {
      if (await teller.readDisabled()) log.warn({ endpoint: endpoint.name }, "webhooks: the endpoint is disabled, as it answered 410 (gone) before: its events become dead letters; flux-gateway hooks replay enables it again");
    }
    for (const subject of facts.subjects()) this.look(subject);
  }

  /** There may be facts of the subject. @param gone a dead node, that may have been telling them */
  look(subject: Subject, gone?: string): void {
    for (const { endpoint, teller } of this.#tellers) if (isTold(endpoint, subject)) teller.look(subject, gone);
  }

  /** A node that was found dead is back: its claims are its own. */
  back(node: string): void {
    for (const { teller } of this.#tellers) teller.back(node);
  }

  /** Whether so many events wait that new ones are refused. */
  get isFull(): boolean {
    return this.#bound.isFull;
  }

  /** Asked before an event is added. False: it is refused, and counted. */
  admits(): boolean {
    return this.#bound.admits();
  }

  has(subject: Subject): boolean {
    return this.#tellers.some(({ teller }) => teller.has(subject));
  }

  /** Names of the endpoints, and their dead letters. */
  async failed(max: number): Promise<{ readonly endpoint: string; readonly isDisabled: boolean; readonly count: number; readonly letters: readonly DeadLetter[] }[]> {
    return Promise.all(this.#tellers.map(async ({ endpoint: { name }, teller }) => ({ endpoint: name, isDisabled: teller.usage().isDisabled, ...(await this.#options.facts.buried(name, max)) })));
  }

  /**
   * Sends dead letters once more, the oldest first, until one fails. Those that are taken are deleted. Enables an
   * endpoint that was disabled. Null: there is no such endpoint.
   */
  async replay(name: string, max: number): Promise<{ readonly told: number; readonly left: number; readonly problem: string } | null> {
    const found = this.#tellers.find(({ endpoint }) => endpoint.name === name);
    if (found === undefined) return null;
    const { facts } = this.#options;
    const { letters } = await facts.buried(name, max);
    let told = 0;
    let problem = "";
    for (const letter of letters) {
      const outcome = await found.endpoint.send(letter);
      if (outcome.kind !== "told") {
        problem = outcome.text;
        break;
      }
      await facts.unbury(name, [letter.id]);
      told++;
    }
    if (problem === "") {
      await facts.disable(name, "");
      await found.teller.readDisabled();
    }
    return { told, left: (await facts.buried(name, 0)).count, problem };
  }

  usage(): readonly WebhookUsage[] {
    return this.#tellers.map(({ teller }) => teller.usage());
  }

  queue(): WebhookQueue {
    return this.#bound.usage();
  }

  async close(): Promise<void> {
    clearInterval(this.#recounting);
    await Promise.all(this.#tellers.map(({ teller }) => teller.close()));
  }

  /** Where nodes share the facts: what waits for each endpoint counts, also where others wait for the same. */
  #waiting(): { events: number; bytes: number } {
    let [events, bytes] = [0, 0];
    for (const { teller: { waiting } } of this.#tellers) {
      events += waiting.events;
      bytes += waiting.bytes;
    }
    return { events, bytes };
  }

  #recount(): void {
    for (const { teller } of this.#tellers) void teller.recount(recountMax);
  }
}

/** Endpoints that are told of a subject, by the configuration. */
export function endpointsOf(config: Config): (subject: Subject) => readonly string[] {
  const endpoints = Object.entries(config.webhooks).map(([name, given]) => ({ name, ...scopeOf(given) }));
  return (subject) => endpoints.filter((endpoint) => isTold(endpoint, subject)).map(({ name }) => name);
}

type Scope = Pick<Endpoint, "kinds" | "namespaces">;

function scopeOf(given: Config["webhooks"][string]): Scope {
  return { kinds: new Set(kindsOf(given)), namespaces: given.namespaces.length === 0 ? null : new Set(given.namespaces) };
}

const ofRooms = /^(room|member)\./;

function isTold({ kinds, namespaces }: Scope, subject: Subject): boolean {
  const isRoom = subject.startsWith("r");
  if (![...kinds].some((kind) => ofRooms.test(kind) === isRoom)) return false;
  return !isRoom || namespaces === null || namespaces.has(namespaceOf(subject.slice(1)));
}

function endpointOf(name: string, { config, version }: WebhooksOptions): Endpoint {
  const given = config.webhooks[name]!;
  const { webhookTimeoutMs: timeoutMs, webhookConnectionsMax: connectionsMax } = config;
  const connector = config.webhooksAllowPrivate ? undefined : publicConnector({ timeoutMs });
  const backend = new Backend({
    url: given.url, connectionsMax, answerBytesMax, connectTimeoutMs: timeoutMs, userAgent: `flux-gateway/${version}`,
    ...(connector !== undefined && { connector }),
  });
  const secrets = given.secret === "" ? [config.hookSecret, config.hookSecretPrevious] : [given.secret, given.secretPrevious];
  return new Endpoint({ name, url: given.url, ...scopeOf(given), backend, signer: new Signer(secrets), timeoutMs });
}
