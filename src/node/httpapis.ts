/** The HTTP API, once for each entrance: the ports of node:http, the port for clients, and NATS. */
import { Audit } from "../admin/audit.ts";
import { keysForAnyone, keysForNats, type ApiKeys } from "../auth/apikeys.ts";
import { createTokenMaker } from "../auth/maketoken.ts";
import { Door } from "../http/door.ts";
import { HttpApi, type HttpApiOptions } from "../http/http.ts";
import { NatsInput } from "../http/natsinput.ts";
import { publicStreamBounds, streamBounds } from "../http/streams.ts";
import { sumOf, type HttpUsage } from "../metrics/http.ts";
import type { Node } from "./parts.ts";

export interface HttpApis {
  /** Of the admin port, or of apiPort. */
  readonly own: HttpApi;
  /** Null: off. */
  readonly natsInput: NatsInput | null;
  usage(): HttpUsage;
  /** Ends all streams within this time. */
  drain(windowMs: number): void;
  /** Every later request is refused. */
  close(): void;
}

/** @param nodes all nodes, as this one knows them. */
export function openHttpApis(node: Node, nodes: HttpApiOptions["node"]["nodes"]): HttpApis {
  const { setup: { config, log }, hub, publicPort, apiKeys } = node;
  const own = openHttpApi(node, nodes, apiKeys, false);
  const open = publicPort === null ? null : openHttpApi(node, nodes, keysForAnyone(apiKeys), true);
  const overNats = config.natsApi ? openHttpApi(node, nodes, keysForNats(apiKeys), false) : null;
  if (publicPort !== null) publicPort.http = open;
  const all = [own, open, overNats].filter((one) => one !== null);
  hub.sessions.onClosed = (userKey) => {
    for (const { streams } of all) streams.closed(userKey);
  };
  return {
    own,
    natsInput: overNats && new NatsInput(overNats, log),
    usage: () => all.map((one) => one.usage()).reduce(sumOf),
    drain(windowMs) {
      for (const { streams } of all) streams.drain(windowMs);
    },
    close() {
      for (const one of all) one.close();
    },
  };
}

function openHttpApi({ setup: { config, log }, hub, rooms, api, clientTokens: tokens, placementView: placement }: Node, nodes: HttpApiOptions["node"]["nodes"], keys: ApiKeys, isPublic: boolean): HttpApi {
  return new HttpApi({
    node: { config, hub, rooms, api, nodes, placement, makeToken: config.apiTokens ? createTokenMaker(config) : null },
    keys,
    tokens,
    door: new Door({ isPublic, config }),
    streams: isPublic ? publicStreamBounds : streamBounds,
    audit: new Audit(log, config.adminKey),
    log,
  });
}
