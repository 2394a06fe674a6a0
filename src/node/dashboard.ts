/** Builds the dashboard of a node: what it knows of itself, and of the others. */
import { performance } from "node:perf_hooks";
import { Cluster } from "../dashboard/cluster.ts";
import { Dashboard, type NodeDashboard } from "../dashboard/dashboard.ts";
import { changedOptions } from "../dashboard/changed.ts";
import { HotRooms } from "../dashboard/hotrooms.ts";
import { pagePaths } from "../dashboard/paths.ts";
import { preview } from "../dashboard/preview.ts";
import { Reasons, type ReasonTotal } from "../dashboard/reasons.ts";
import { RoomTraces } from "../dashboard/roomtraces.ts";
import { Sampler, type Reading } from "../dashboard/sampler.ts";
import { UserTraces } from "../dashboard/usertraces.ts";
import { listMax, type About, type Said } from "../dashboard/answers.ts";
import { closes, type CloseName } from "../errors.ts";
import { NodeExchange } from "../http/exchange/nodehttp.ts";
import type { LookQuestion } from "../messages/messages.ts";
import { refusalReasons } from "../metrics/metrics.ts";
import { version } from "../platform/version.ts";
import { inboxKey, inboxName, nameOfRoom, nameOfUser, tenantOfRoom, userKey } from "../protocol/roomkeys.ts";
import type { HttpApis } from "./httpapis.ts";
import type { Node } from "./parts.ts";

export function openDashboard(node: Node, http: HttpApis): NodeDashboard {
  const { setup: { config, sources }, hub, rooms, reactors, others, surveys, apiKeys } = node;
  const sampler = new Sampler(readingOf(node));
  const reasons = new Reasons(() => totalsOf(node), (reason) => reactors.refusalOf(reason));
  const hotRooms = new HotRooms({ rooms: () => rooms.all(), named: (key) => ({ room: shownName(key), tenant: tenantOfRoom(key) }) });
  const userTraces = new UserTraces({ follow: (users) => reactors.follow(users) });
  reactors.onFollowed = (user, reactor, event) => userTraces.tell(user, reactor, event);
  const roomTraces = new RoomTraces({ listen: (...call) => hub.joins.listen(...call), unlisten: (...call) => hub.joins.unlisten(...call) });
  const cluster = new Cluster({
    node: config.nodeId,
    nodes: () => others.nodes(),
    ask: (question, timeoutMs) => surveys.list(question, { timeoutMs }),
  });
  const started = performance.now();

  const own: { readonly [A in About]: (question: LookQuestion) => Said<A> | null | Promise<Said<A>> } = {
    now: () => nowOf(node, sampler, Math.round(performance.now() - started)),
    history: () => sampler.history(),
    reasons: () => reasons.list(),
    slow: () => reactors.slow().map((session) => ({ ...session, roomsBehind: [...session.roomsBehind] })),
    hot: () => hotRooms.list(),
    work: () => workOf(node),
    settings: () => changedOptions(config, sources),
    trace: ({ user = "", tenant = "", after = 0 }) => userTraces.read(userKey(tenant, user), after),
  };
  const dashboard = new Dashboard({
    node: config.nodeId,
    version,
    keys: apiKeys,
    paths: pagePaths({ cluster, roomTraces, inbox: (tenant, user) => inboxOf(node, tenant, user) }),
    api: (req, res) => http.own.serve(new NodeExchange(req, res)),
  });
  return {
    answer(question) {
      const about = question.about as About;
      if (!Object.hasOwn(own, about)) return Promise.resolve(null);
      const said = own[about](question);
      if (said instanceof Promise) return said.then((late) => ({ kind: "look", said: late }));
      return said === null ? Promise.resolve(null) : { kind: "look", said };
    },
    serve: (...request) => dashboard.serve(...request),
    stop() {
      sampler.stop();
      reasons.stop();
      hotRooms.stop();
      userTraces.stop();
      roomTraces.stop();
      cluster.stop();
    },
  };
}

/** An inbox is shown with its user. */
function shownName(key: string): string {
  const name = nameOfRoom(key);
  return name === inboxName ? `${inboxName} of ${nameOfUser(key.slice(tenantOfRoom(key).length + 1))}` : name;
}

function readingOf({ counters, hub, reactors, guard }: Node): () => Reading {
  let loop = performance.eventLoopUtilization();
  return () => {
    const since = loop;
    loop = performance.eventLoopUtilization();
    const sum = (read: (one: (typeof counters)[number]) => number) => counters.reduce((total, one) => total + read(one), 0);
    const { publications, answers } = hub.usage();
    return {
      totals: {
        publications,
        deliveries: sum((one) => one.get("deliveries")),
        opened: sum((one) => one.get("opened")),
        closed: sum((one) => one.closes().reduce((total, [, count]) => total + count, 0)),
        refused: sum((one) => refusalReasons.reduce((total, [, name]) => total + one.get(name), 0)),
        errors: sum((one) => one.get("errorReplies")),
        bytesOut: sum((one) => one.get("bytesOut")),
      },
      broker: { answers: answers.buckets.reduce((total, count) => total + count, 0), ms: answers.sumMs },
      sockets: sum((one) => one.sockets),
      memoryBytes: guard.usedBytes(),
      hubBusy: performance.eventLoopUtilization(loop, since).utilization,
      reactors: counters.map((one, index) => {
        const { ring, overflow } = reactors.queue(index);
        return {
          sockets: one.sockets, deliveries: one.get("deliveries"), ringBytes: ring + overflow, queueBytes: one.get("queueLongestBytes"), slow: one.get("queuesOver50"), behind: one.get("behind"),
          lagMs: Math.round(one.get("loopLagMaxMs")), busy: Math.round(one.get("loopUtilization") * 100) / 100, heapBytes: one.get("heapBytes"), heapLimitBytes: one.get("heapLimitBytes"),
        };
      }),
    };
  };
}

function nowOf({ setup: { config }, state, hub, rooms, redis, guard, stores }: Node, sampler: Sampler, upMs: number): Said<"now"> {
  const { reading, rates } = sampler.now;
  const { publications, deliveries, opened, closed, refused, errors, bytesOut, brokerMs, hubBusy, hubLagMs, reactorDeliveries } = rates;
  const { problem } = state;
  const { size: sessions, users } = hub.sessions;
  return {
    version, upMs, ready: problem === "", problem,
    sockets: reading.sockets, sessions, users, rooms: rooms.size,
    publications, deliveries, opened, closed, refused, errors, bytesOut, brokerMs,
    memoryBytes: reading.memoryBytes, memoryLimitBytes: config.memoryLimitBytes, memoryShort: guard.short,
    redis: redis && redis.up, nats: stores.nats && !stores.nats().away,
    hub: { busy: hubBusy, lagMs: hubLagMs },
    reactors: reading.reactors.map((one, index) => ({ ...one, deliveries: reactorDeliveries[index] ?? 0 })),
  };
}

/** Closes by the node and refusals before the upgrade, since the start. */
function totalsOf({ counters }: Node): ReasonTotal[] {
  const closed = (Object.keys(closes) as CloseName[]).map((reason, index) => ({ reason, code: closes[reason].code, total: counters.reduce((total, one) => total + one.closes()[index]![1], 0) }));
  const refused = refusalReasons.map(([reason, name]) => ({ reason, code: 0, total: counters.reduce((total, one) => total + one.get(name), 0) }));
  return [...closed, ...refused];
}

function workOf({ hooks, webhooks, stores, setup: { config } }: Node): Said<"work"> {
  const meanMs = (buckets: readonly number[], sumMs: number) => {
    const count = buckets.reduce((sum, one) => sum + one, 0);
    return count === 0 ? 0 : Math.round((sumMs / count) * 10) / 10;
  };
  return {
    hooks: hooks === null ? [] : hooks.usage().hooks.slice(0, listMax).map(({ hook, namespace, allowed, denied, running, waiting, breaker, buckets, sumMs, failures }) => ({ hook, namespace, allowed, denied, running, waiting, breaker, meanMs: meanMs(buckets, sumMs), failures: { ...failures } })),
    webhooks: webhooks === null ? [] : webhooks.usage().slice(0, listMax).map(({ endpoint, told, deadLetters, lost, waiting, ageMs, parked, breaker, isDisabled, failures }) => ({ endpoint, told, deadLetters, lost, waiting, ageMs, parked, breaker, isDisabled, failures: { ...failures } })),
    archive: stores.archive && { ...stores.archive(), lagMaxMs: config.archiveLagMs },
  };
}

const inboxMax = 20;

/** The newest direct messages of a user, the newest first. */
function inboxOf({ hub }: Node, tenant: string, user: string): Promise<object> {
  return new Promise((resolve) => {
    hub.history(inboxKey(tenant, user), { direction: "newest", epoch: "", seq: 0, limit: inboxMax }, (answer) => {
      if ("error" in answer) return resolve({ problem: answer.error, messages: [] });
      const messages = answer.value.publications.map(({ epoch, seq, sender, time, payload }) => ({ position: `${epoch}:${seq}`, at: time, sender, bytes: payload.length, payload: preview(payload) }));
      resolve({ problem: "", messages: messages.sort((a, b) => b.at - a.at) });
    });
  });
}
