/** Options for a broker on a nats-server, under a prefix that nobody else has. */
import { randomBytes } from "node:crypto";
import type { NatsBrokerOptions } from "../../src/broker/nats.ts";

export function brokerOptions({ url }: { readonly url: string }): NatsBrokerOptions {
  const quiet = { info() {}, warn() {}, error() {} };
  return {
    servers: [url], user: "", password: "", token: "", creds: "", tlsCa: "", tlsCert: "", tlsKey: "",
    node: "test", prefix: `t${randomBytes(6).toString("hex")}`, partitions: 2, replicas: 1, storage: "file",
    timeoutMs: 5_000, roomsMax: 1000, keyWindowMs: 120_000, keysPerRoomMax: 1000, payloadBytesMax: 65_536,
    namespaceOf: () => "test", namespaces: new Map(), log: quiet,
  };
}
