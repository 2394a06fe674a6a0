/** Every call of the HTTP API, in the order of its documentation. */
import type { ApiCall } from "./call.ts";
import { historyCall } from "./calls/history.ts";
import { nodesCall } from "./calls/nodes.ts";
import { placementCall } from "./calls/placement.ts";
import { batchCall, broadcastCall, messageCall, publishCall } from "./calls/publish.ts";
import { streamCall } from "./calls/stream.ts";

export const basePath = "/api/v1";

export const calls: readonly ApiCall[] = [publishCall, batchCall, broadcastCall, messageCall, historyCall, streamCall, nodesCall, placementCall];
