/** Builds all parts of a node. Nothing serves yet: gateway.ts starts them. */
import { ApplicationApi } from "../api/api.ts";
import type { AllNodes } from "../api/people.ts";
import type { ApiKeys } from "../auth/apikeys.ts";
import type { ClientTokens } from "../auth/clienttokens.ts";
import { connectRedis, openPresence, openSessions, openTables } from "./cluster.ts";
import { collectGarbage } from "../platform/collect.ts";
import type { NodeDashboard } from "../dashboard/dashboard.ts";
import { Drain } from "./drainprogress.ts";
import { hasHooks } from "../config/hooks.ts";
import type { Hooks } from "../hooks/hooks.ts";
import { openWebhooks, type NodeWebhooks } from "./webhooks.ts";
import { Hub } from "../hub/hub.ts";
import { openApiKeys, openClientTokens } from "./keystores.ts";
import { Looks } from "./looks.ts";
import { PublicPort } from "../http/publicport.ts";
import { Reactors } from "./reactors.ts";
import { pageBytesFor } from "../hub/recovery/pages.ts";
import { RoomList } from "../hub/roomlist.ts";
import { HubRooms } from "../hub/rooms.ts";
import { listed } from "../hub/sessions/places.ts";
import { TailBudget } from "../hub/recovery/tail.ts";
import { Counters, createCounters } from "../link/counters.ts";
import { guardMemory, type MemoryGuard } from "./memoryguard.ts";
import { planMemory } from "../platform/memoryplan.ts";
import type { ListQuestion, NodeAnswer, Question } from "../messages/messages.ts";
import { Placement } from "../placement/placement.ts";
import { createGate } from "../placement/leases/gate.ts";
import { createPlacement, SharedPlacement } from "../placement/shared.ts";
import type { PlacementView } from "../placement/view.ts";
import type { Tables } from "../placement/tables.ts";
import type { Partitions } from "./partitions.ts";
import { OtherNodes } from "./peers/peers.ts";
import type { Presence } from "../presence/presence.ts";
import { Encoder } from "../protocol/formats/encoder.ts";
import type { RedisLink } from "../redis/redis.ts";
import type { RegistryEvents } from "../registry/registry.ts";
import { inboxName, nameOfRoom, roomKey, userKey } from "../protocol/roomkeys.ts";
import { compileKinds, roomNameProblem, type KindOf } from "../config/roomnames.ts";
import type { SessionsHere } from "../sessions/sessions.ts";
import type { Setup } from "./setup.ts";
import { openStores, type Parts, type Stores } from "./stores.ts";
import { Surveys } from "./peers/survey.ts";
import { NodeState } from "../link/threads.ts";
import { version } from "../platform/version.ts";

export interface Node {
  readonly setup: Setup;
  /** Null for a single node. */
  readonly redis: RedisLink | null;
  readonly others: OtherNodes;
  readonly rooms: HubRooms;
  readonly tailBudget: TailBudget;
  readonly stores: NodeStores;
  readonly hub: Hub;
  /** Null where no hook is configured. */
  readonly hooks: Hooks | null;
  /** Null where no endpoint is configured. */
  readonly webhooks: NodeWebhooks | null;
  /** Shared between the main thread and the reactors. */
  readonly state: NodeState;
  readonly counters: readonly Counters[];
  readonly reactors: Reactors;
  readonly looks: Looks;
  readonly guard: MemoryGuard;
  readonly draining: Drain;
  readonly surveys: Surveys;
  readonly api: ApplicationApi;
  /** Who may call the HTTP API. */
  readonly apiKeys: ApiKeys;
  /** Tokens of clients, as the HTTP API takes them. */
  readonly clientTokens: ClientTokens;
  /** The HTTP API on the port for clients; null: it is not there. */
  readonly publicPort: PublicPort | null;
  readonly placement: Placement;
  /** What the node may deliver from inboxes. Null where users have no holder. */
  readonly gate: SharedArrayBuffer | null;
  /** Null also until the node knows the others. */
  partitions: Partitions | null;
  /** What the main thread sees of it. */
  readonly placementView: PlacementView;
  readonly roomList: RoomList;
  /** Null until the node serves. */
  dashboard: NodeDashboard | null;
}

/** Broker, session store and presence, and their reaction to changes of other nodes. */
export type NodeStores = Stores & RegistryEvents & { readonly presence: Presence; readonly tables: Tables };

/** Builds from the bottom up: connections, stores, hub, reactors. @throws ConfigError */
export async function assemble(setup: Setup, parts: Parts): Promise<Node> {
  const { config, log } = setup;
  const redis = await connectRedis(config, log);
  const others = new OtherNodes();
  const nodeState = NodeState.create();
  const state = new NodeState(nodeState);
  const apiKeys = await openApiKeys(config, setup.authKeys, redis, log).catch(async (error: unknown) => {
    await redis?.close();
    throw error;
  });
  // Loaded only where a hook is configured: the client for HTTP takes memory.
  const hooks = hasHooks(config) ? new (await import("../hooks/hooks.ts")).Hooks({ config, version, log }) : null;
  const onSignedOut = (user: string) => hooks?.signedOut(user);
  const webhooks = await openWebhooks(config, redis, log);
  const { hub, stores, ...kept } = await openHub(setup, parts, redis, others, state, onSignedOut, webhooks).catch(async (error: unknown) => {
    await apiKeys.stop();
    throw error;
  });

  const shared = Array.from({ length: config.reactors }, createCounters);
  const counters = shared.map((one) => new Counters(one));
  const placed = createPlacement(config.placementPartitions);
  const placement = new Placement({
    mode: config.placement, partitions: config.placementPartitions, stableMs: config.placementStableMs, deadMs: config.nodeDeadMs, heartbeatMs: config.nodeHeartbeatMs,
    movesPerSecond: config.placementMovesPerSecond, calmMs: config.placementCalmMs, natsAway: () => stores.nats?.().away ?? false,
    node: config.nodeId, shared: placed, tables: stores.tables, registry: others, log,
  });
  const placementView = new SharedPlacement(placed, config.placement, config.placementPartitions);
  const gate = config.placement === "partition" ? createGate(config.placementPartitions) : null;
  const onServing = (serving: number) => (state.serving = serving > 0);
  const publicPort = config.apiPublic ? new PublicPort({ ringBytes: config.ringBytes, log }) : null;
  const reactors = new Reactors({ ...setup, resumeSecret: stores.resumeSecret, hub, hooks, publicPort, counters: shared, nodeState, placement: placed, gate, onServing, onLook: (node) => looks.look(node) });
  const looks = new Looks({ nodes: () => others.nodes(), onLooked: (node, refusing) => reactors.looked(node, refusing) });
  const guard = guardMemory(config, state, counters, () => (collectGarbage(), reactors.collect()), log);
  const draining = new Drain({ state, reactors, counters, drainMs: config.drainMs, announce: () => others.announce("draining"), log });
  const surveys: Surveys = new Surveys({
    node: config.nodeId,
    nodes: () => others.nodes(),
    answer: (question) => answerTo(question, node),
    reachable: () => redis?.up ?? false,
    send: (to, message) => others.send(to, message),
    sendAll: (message) => others.sendAll(message),
  });
  // With a broker of NATS or of the embedding program there may be other nodes. Without Redis they share no presence.
  const isAlone = redis === null && stores.nats === null && parts.broker === undefined;
  const knowsAllMembers = () => isAlone || (redis?.up === true && !others.stale);
  const nodes: AllNodes = {
    gather: (...call) => surveys.gather(...call),
    hear: (...call) => surveys.hear(...call),
    ask: (...call) => surveys.ask(...call),
    list: (...call) => surveys.list(...call),
    sendAll: (message) => others.sendAll(message),
  };
  const api = new ApplicationApi({ config, hub, rooms: kept.rooms, presence: stores.presence, store: stores.store, nodes, knowsAllMembers, log });
  const clientTokens = openClientTokens(config, setup.authKeys);
  const roomList = new RoomList(() => kept.rooms.all());
  const node: Node = { setup, redis, others, gate, partitions: null, ...kept, roomList, stores, hub, hooks, webhooks, state, counters, reactors, looks, guard, draining, surveys, api, apiKeys, clientTokens, publicPort, placement, placementView, dashboard: null };
  return node;
}

/** The hub with its rooms and stores. The stores call it with events. */
async function openHub(setup: Setup, parts: Parts, redis: RedisLink | null, others: OtherNodes, state: NodeState, onSignedOut: (userKey: string) => void, webhooks: NodeWebhooks | null): Promise<Pick<Node, "rooms" | "tailBudget" | "stores" | "hub">> {
  const { config, log } = setup;
  const tailBudget = new TailBudget(planMemory(config).tailsBytes);
  const tailLimits = { publicationsMax: config.tailPublicationsMax, bytesMax: config.tailBytesMax };
  const rooms = new HubRooms({ roomsMax: config.roomsMax, reactors: config.reactors, tailLimits, tailBudget });
  const kindOf = compileKinds(config);
  const stores = await openNodeStores(setup, parts, redis, kindOf, state, webhooks, () => hub);
  const { broker, store, presence } = stores;
  const { nodeId, sessionTtlMs, sessionsPerUserMax, watchedPerSessionMax, sendsPerMinute, newInboxesPerHour } = config;
  const hub: Hub = new Hub({
    node: nodeId,
    broker, store, presence, rooms, kindOf, log,
    outOfMemory: () => state.outOfMemory,
    toNode: (to, message) => others.send(to, message),
    onSignedOut,
    keepMs: keepWithin(sessionTtlMs),
    encoder: new Encoder(2 * config.frameBytesMax),
    pageBytesMax: pageBytesFor(config.ringBytes),
    roomNamesBytesMax: config.frameBytesMax / 2,
    isRoomName: (name) => name !== inboxName && roomNameProblem(name, config.roomNameBytesMax) === null,
    sessionsPerUserMax, watchedPerSessionMax, sendsPerMinute, newInboxesPerHour,
  });
  return { rooms, tailBudget, stores, hub };
}

/** On an error, closes in reverse what is open already. @param hub exists once the stores are open. */
async function openNodeStores({ config, log }: Setup, parts: Parts, redis: RedisLink | null, kindOf: KindOf, state: NodeState, webhooks: NodeWebhooks | null, hub: () => Hub): Promise<NodeStores> {
  const opened: (() => Promise<void>)[] = [async () => redis?.close()];
  try {
    const sockets: SessionsHere = { here: () => hub().sessions.here(), end: (sessions) => hub().sessions.end(sessions) };
    const onForgotten = (id: string | null) => hub().sessions.forgotten(id);
    const onTaken = (id: string, generation: number) => hub().sessions.taken(id, generation);
    const onMissed = () => hub().sessions.assigned.reconcile();
    const onSecret = (differs: boolean) => void (state.secretDiffers = differs);
    const shared = redis && (await openSessions(config, redis, log, { onForgotten, onTaken, onMissed, onSecret, sockets }));
    opened.unshift(async () => shared?.store.stop());
    const presence = await openPresence(config, redis, log, {
      roomChanged: (room, change) => hub().presence.roomChanged(room, change),
      statusChanged: (status) => hub().presence.statusChanged(status),
    }, webhooks);
    opened.unshift(() => presence.presence.stop());
    const tables = await openTables(config, redis);
    const stores = await openStores({
      config, log, parts, shared, webhooks,
      retentionOf: (room) => kindOf(nameOfRoom(room))?.retention ?? null,
      deliver: (room, publication) => hub().deliver(room, publication),
      moved: (room, position) => hub().moved(room, position),
    });
    return { ...stores, ...presence, tables };
  } catch (error) {
    for (const close of opened) await close();
    throw error;
  }
}

/** Interval of renewing stored sessions that have a socket: several times within sessionTtlMs. */
function keepWithin(ttlMs: number): number {
  return Math.max(10, Math.min(30_000, ttlMs / 4));
}

/** The answer of this node to a question of another, or its own. */
function answerTo(question: Question | ListQuestion, { hub, rooms, roomList, state, redis, draining, partitions, dashboard, stores: { nats } }: Node): NodeAnswer | Promise<NodeAnswer | null> {
  switch (question.kind) {
    case "user": return { kind: "user", sessions: hub.sessions.of(userKey(question.tenant ?? "", question.user)).length };
    case "sessions": {
      const sessions = hub.sessions.of(userKey(question.tenant, question.user));
      return { kind: "sessions", sessions: sessions.map(({ id: session, device, rooms: places }) => ({ session, device, rooms: listed(places).length })) };
    }
    case "look": return dashboard === null ? Promise.resolve(null) : dashboard.answer(question);
    case "rooms": return roomList.page(question).then((page) => page && { kind: "rooms", ...page });
    case "room": return { kind: "room", members: rooms.named(roomKey(question.tenant ?? "", question.room))?.members ?? 0 };
    case "health": {
      const { sessions: { size: sessions, users } } = hub;
      const { problem } = state;
      const { state: stage, ...drain } = draining.progress();
      return { kind: "health", ready: problem === "", problem, sessions, users, rooms: rooms.size, redis: redis && redis.up, nats: nats && !nats().away, ...(partitions !== null && { partitions: partitions.said() }), ...(stage !== "serving" && { drain }) };
    }
  }
}
