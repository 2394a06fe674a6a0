/** Every call of the HTTP API, in the order of its documentation. */
import type { ApiCall } from "./call.ts";
import { historyCall } from "./calls/history.ts";
import { batchCall, broadcastCall, messageCall, publishCall } from "./calls/publish.ts";

export const basePath = "/api/v1";

export const calls: readonly ApiCall[] = [publishCall, batchCall, broadcastCall, messageCall, historyCall];
