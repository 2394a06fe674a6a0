/** What nodes hold for those who are there: when nobody is, it must be as it was before anybody came. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import { sumOf } from "./nodeprocess.ts";
import { until } from "./until.ts";

/** Of sessions, rooms, and what waits for somebody or something. */
const held = [
  "flux_sockets", "flux_members", "flux_members_behind", "flux_sockets_queued", "flux_reactor_rooms", "flux_hub_replays", "flux_hub_queue_bytes",
  "flux_ring_overflow_bytes", "flux_nats_pending_acks", "flux_nats_pending_bytes", "flux_sessions_writes_waiting",
  "flux_presence_rooms", "flux_presence_members", "flux_users_online", "flux_watches",
];
/** A room keeps its place and its tail for a minute after its last member. */
const heldLonger = ["flux_rooms", "flux_hub_tail_bytes"];
const lookMs = 400;

export interface QuietOptions {
  /** Rooms and their tails, too. */
  readonly rooms?: boolean;
  readonly limitMs: number;
}

/** Waits until no node holds anything, and Redis no session of a room or user. */
export async function untilQuiet({ nodes, redis }: Pick<Cluster, "nodes" | "redis">, { rooms = false, limitMs }: QuietOptions): Promise<void> {
  let left: string[] = [];
  const look = async (): Promise<boolean> => {
    const texts = await Promise.all(nodes.map((node) => node.metrics()));
    left = texts.flatMap((text, node) =>
      [...held, ...(rooms ? heldLonger : [])].flatMap((name) => (sumOf(text, name) === 0 ? [] : [`node-${node} ${name} ${sumOf(text, name)}`])),
    );
    for (const pattern of ["flux:room:*:s", "flux:user:*:s", "flux:rooms-of:*", "flux:users-of:*"]) left.push(...(await redis.client.keys(pattern)));
    return left.length === 0;
  };
  await until(async () => (await look()) || sleep(lookMs, false), "nothing to be left", limitMs).catch(() => {
    throw new Error(`nobody is there any more, and after ${limitMs} ms this is left: ${left.join(", ")}`);
  });
}
