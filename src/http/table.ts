/** Every call of the HTTP API, in the order of its documentation. */
import type { ApiCall } from "./call.ts";
import { historyCall } from "./calls/history.ts";
import { nodesCall } from "./calls/nodes.ts";
import { placementCall } from "./calls/placement.ts";
import { batchCall, broadcastCall, messageCall, publishCall } from "./calls/publish.ts";
import { membersCall, roomCall, roomsCall } from "./calls/rooms.ts";
import { streamCall } from "./calls/stream.ts";
import { tokenCall } from "./calls/tokens.ts";
import { disconnectCall, joinCall, leaveCall, reconnectCall, userCall } from "./calls/users.ts";

export const basePath = "/api/v1";

export const calls: readonly ApiCall[] = [publishCall, batchCall, broadcastCall, messageCall, historyCall, streamCall, roomsCall, roomCall, membersCall, userCall, joinCall, leaveCall, disconnectCall, reconnectCall, tokenCall, nodesCall, placementCall];
