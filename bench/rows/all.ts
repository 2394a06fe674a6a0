/** All rows, and the names of groups of them. */
import { apiRow } from "./api.ts";
import { archiveAwayRow, archiveRow } from "./archive.ts";
import { apiMembersRow } from "./apimembers.ts";
import { catchUpRow } from "./catchup.ts";
import { connectionUrlRow } from "./connectionurl.ts";
import { connectRows } from "./connects.ts";
import { crossRow } from "./cross.ts";
import { durableNodesRow } from "./durablenodes.ts";
import { durableRow } from "./durable.ts";
import { echoRow } from "./echo.ts";
import { elasticRow } from "./elastic.ts";
import { fanoutRow } from "./fanout.ts";
import { flushRow } from "./flush.ts";
import { handshakeRow } from "./handshake.ts";
import { hooksRow } from "./hooks.ts";
import { webhooksRow } from "./webhooks.ts";
import { idlePresenceRow, idleRow } from "./idle.ts";
import { idleCostRow } from "./idlecost.ts";
import { lbRow } from "./lb.ts";
import { lostNodeRow } from "./lostnode.ts";
import { natsDurableRow } from "./natsdurable.ts";
import { natsFanoutRow } from "./natsfanout.ts";
import { nodesRow } from "./nodes.ts";
import { partitionRow } from "./partition.ts";
import { peerRows } from "./peers.ts";
import { recoveryRow, stormRecoveryRow } from "./recovery.ts";
import { rollingRow } from "./rolling.ts";
import { roomsRow } from "./rooms.ts";
import { stormRow } from "./storm.ts";
import { loadClientRows, speedRows, wakeUpRows } from "./speed.ts";
import { sessionBroadcastRow } from "./sessionbroadcast.ts";
import type { Row } from "./row.ts";

export const groups: Record<string, readonly Row[]> = {
  fanout: [fanoutRow("binary", 100), fanoutRow("binary", 2000)],
  "fanout-json": (["json", "json-arrays"] as const).flatMap((format) => [fanoutRow(format, 100), fanoutRow(format, 2000)]),
  speed: [...speedRows, ...loadClientRows],
  "wake-ups": wakeUpRows,
  "load-client": loadClientRows,
  peers: peerRows,
  echo: [echoRow],
  idle: [idleRow, idlePresenceRow],
  "idle-cost": [idleCostRow],
  cross: [crossRow],
  handshake: [handshakeRow],
  connects: connectRows,
  "connection-url": [connectionUrlRow],
  storm: [stormRow, lostNodeRow("any"), lostNodeRow("hash")],
  "lost-node-any": [lostNodeRow("any")],
  "lost-node-hash": [lostNodeRow("hash")],
  elastic: [elasticRow("hash"), elasticRow("any")],
  "elastic-hash": [elasticRow("hash")],
  "elastic-any": [elasticRow("any")],
  "session-broadcast": [sessionBroadcastRow("any"), sessionBroadcastRow("hash")],
  durable: [durableRow],
  catchup: [catchUpRow],
  flush: [flushRow],
  nodes: [nodesRow, natsFanoutRow, natsDurableRow],
  "durable-nodes": [durableNodesRow],
  partition: [partitionRow],
  recovery: [recoveryRow, stormRecoveryRow],
  lb: [lbRow],
  rolling: [rollingRow],
  rooms: [roomsRow],
  api: [apiRow, apiMembersRow],
  hooks: [hooksRow],
  webhooks: [webhooksRow],
  archive: [archiveRow],
  "archive-away": [archiveAwayRow],
};

export const allRows: readonly Row[] = Object.values(groups).flat();
