/** Builds the SQL outbox: its tables, and what publishes its rows. */
import { checkRoom, checkTenant, jsonPayload } from "../api/checks.ts";
import type { Broker, Position } from "../broker/broker.ts";
import { ConfigError, showValue } from "../config/config.ts";
import type { Outbox, OutboxOptions } from "../outbox/outbox.ts";
import { PostgresProblem, textOf } from "../postgres/errors.ts";
import { applicationKey, roomKey } from "../protocol/roomkeys.ts";
import { gatewayOf } from "./archive.ts";
import type { Node } from "./parts.ts";

/** Pages of a room's history that are looked through for a key. */
const pagesMax = 40;
const pageSize = 256;
const pageBytes = 1024 * 1024;

/**
 * Loads the client library only where an outbox is configured. A PostgreSQL that cannot be reached does not prevent the
 * start.
 * @throws ConfigError for what stays until an operator acts
 */
export async function openOutbox({ setup: { config, log }, hub, stores }: Pick<Node, "setup" | "hub" | "stores">): Promise<Outbox | null> {
  const { outbox: url, nodeId, keyWindowMs, roomNameBytesMax, frameBytesMax } = config;
  if (url === "") return null;
  const { startOutbox } = await import("../outbox/outbox.ts");
  const { openOutboxRows, prepareOutbox } = await import("../outbox/rows.ts");
  const place = { url, gateway: config.nats.length === 0 ? "one node" : gatewayOf(config), name: `flux-gateway ${nodeId} outbox` };
  try {
    await prepareOutbox(place);
  } catch (error) {
    if (error instanceof PostgresProblem) throw new ConfigError([`--outbox ${showValue(config, "outbox")}: ${error.message}`]);
    log.warn({ problem: textOf(error) }, "outbox: PostgreSQL cannot be reached; publications wait there, and the node retries");
  }
  const keyOf = ({ tenant, room }: { readonly tenant: string; readonly room: string }) => roomKey(checkTenant(tenant), checkRoom(room, roomNameBytesMax));
  const find: OutboxOptions["find"] = async (row, withinMs) => {
    const room = keyOf(row);
    const kind = hub.kindOf(room);
    return kind === null || !kind.retention.durable ? null : findKey(stores.broker, room, kind.retention, applicationKey(row.key), Date.now() - withinMs);
  };
  return startOutbox({
    rows: openOutboxRows(place),
    publish: (row, done) => hub.publish(keyOf(row), { sender: "", key: applicationKey(row.key), origin: "", ...jsonPayload(row.data, frameBytesMax) }, done),
    find, keyWindowMs, log,
  });
}

/** Whether a room has a publication with a key since a time; null: its history does not say. */
async function findKey(broker: Broker, room: string, retention: Parameters<Broker["history"]>[1], key: string, since: number): Promise<boolean | null> {
  let before: Position | null = null;
  for (let page = 0; page < pagesMax; page++) {
    const query: Parameters<Broker["history"]>[2] = { direction: before === null ? "newest" : "before", position: before ?? { epoch: "", seq: 0 }, limit: pageSize, bytesMax: pageBytes, keys: true };
    const answer = await new Promise<Parameters<Parameters<Broker["history"]>[3]>[0]>((resolve) => broker.history(room, retention, query, resolve));
    if ("error" in answer || answer.value.gap === true) return null;
    const { publications, more } = answer.value;
    if (publications.some((one) => one.key === key)) return true;
    const oldest = publications[0];
    if (oldest === undefined || oldest.key === undefined) return publications.length === 0 && !more && page > 0 ? false : null;
    if (oldest.time < since) return false;
    if (!more) return null;
    before = { epoch: oldest.epoch, seq: oldest.seq };
  }
  return null;
}
