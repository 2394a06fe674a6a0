/**
 * What a node says of itself to the dashboard of any node. The answers of other nodes are checked here: another
 * release may say more or less.
 */
import * as z from "zod";

/** What one can ask a node about. */
export type About = keyof typeof shapes;
export type Said<A extends About> = z.infer<(typeof shapes)[A]>;

export const listMax = 200;
export const settingsMax = 1_000;
/** As the option `reactors`. */
const reactorsMax = 256;
const amount = z.number();
const text = z.string().max(4_096);

const reactor = z.object({
  sockets: amount,
  deliveries: amount,
  /** Bytes on their way to the reactor, and for the slowest of its sockets. */
  ringBytes: amount,
  queueBytes: amount,
  /** Sockets over half of their queue. */
  slow: amount,
  /** Members that receive nothing until their socket has room. */
  behind: amount,
  lagMs: amount,
  busy: amount,
  heapBytes: amount,
  heapLimitBytes: amount,
});

/** Rates are of the last second. */
const now = z.object({
  version: text,
  upMs: amount,
  ready: z.boolean(),
  problem: text,
  sockets: amount,
  sessions: amount,
  users: amount,
  rooms: amount,
  publications: amount,
  deliveries: amount,
  opened: amount,
  closed: amount,
  refused: amount,
  errors: amount,
  bytesOut: amount,
  /** Mean time of the broker's answers in the last second. */
  brokerMs: amount,
  memoryBytes: amount,
  memoryLimitBytes: amount,
  memoryShort: z.boolean(),
  /** Whether it reaches them; null where it uses none. */
  redis: z.boolean().nullable(),
  nats: z.boolean().nullable(),
  /** Of the main thread. */
  hub: z.object({ busy: amount, lagMs: amount }),
  reactors: z.array(reactor).max(reactorsMax),
});

const series = z.array(amount).max(2_000);
const history = z.object({ stepMs: amount, series: z.record(z.string(), series) });

const reason = z.object({
  reason: text,
  /** Close code; 0: the socket was refused before it was one. */
  code: amount,
  minute: amount,
  quarter: amount,
  /** What the log said of the last one, and what to do about it. */
  text,
  hint: text,
  client: text,
});

const slow = z.object({ reactor: amount, session: text, user: text, tenant: text, state: text, queuedBytes: amount, slowMs: amount, roomsBehind: z.array(text).max(listMax) });
const hot = z.object({ room: text, tenant: text, members: amount, perSecond: amount, deliveries: amount });

const endpoint = z.object({
  endpoint: text, told: amount, deadLetters: amount, lost: amount, waiting: amount, ageMs: amount, parked: amount, breaker: text, isDisabled: z.boolean(), failures: z.record(z.string(), amount),
});
const hook = z.object({ hook: text, namespace: text, allowed: amount, denied: amount, running: amount, waiting: amount, breaker: text, meanMs: amount, failures: z.record(z.string(), amount) });
const archive = z.object({ up: z.boolean(), streams: amount, pending: amount, lagMs: amount, lagMaxMs: amount, rows: amount, gaps: amount, missing: amount, failures: amount });

const option = z.object({ key: text, group: text, value: text, standard: text, from: text, text });
const event = z.object({ n: amount, at: amount, reactor: amount, session: text, what: text, details: text });

export const shapes = {
  now,
  history,
  reasons: z.array(reason).max(listMax),
  slow: z.array(slow).max(listMax),
  /** `isNew`: there is nothing to compare with yet. */
  hot: z.object({ isNew: z.boolean(), rooms: z.array(hot).max(listMax) }),
  work: z.object({ hooks: z.array(hook).max(listMax), webhooks: z.array(endpoint).max(listMax), archive: archive.nullable() }),
  settings: z.array(option).max(settingsMax),
  trace: z.object({ unsaid: amount, events: z.array(event).max(1_000) }),
} as const;

export function isAbout(text: string): text is About {
  return Object.hasOwn(shapes, text);
}

/** Null: the node said something else. */
export function checked<A extends About>(about: A, said: unknown): Said<A> | null {
  const { success, data } = shapes[about].safeParse(said);
  return success ? (data as Said<A>) : null;
}
