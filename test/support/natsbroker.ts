/** Brokers on a nats-server, without a node around them. */
import { randomBytes } from "node:crypto";
import type { Test } from "tap";
import type { Answer, Draft, Page, Position, Published, Query, Retention, Stored } from "../../src/broker/broker.ts";
import { createNatsBroker, type NatsBroker, type NatsBrokerOptions } from "../../src/broker/nats/broker.ts";

export { value } from "../../src/contracts/answers.ts";

export const durable: Retention = { durable: true, historySize: 1000, historyTtlMs: 3_600_000, historyBytesMax: 1e9 };
export const ephemeral: Retention = { durable: false, historySize: 0, historyTtlMs: 0, historyBytesMax: 0 };

/** Options under a prefix that nobody else has. */
export function brokerOptions({ url }: { readonly url: string }): NatsBrokerOptions {
  const quiet = { info() {}, warn() {}, error() {} };
  return {
    servers: [url], user: "", password: "", token: "", creds: "", tlsCa: "", tlsCert: "", tlsKey: "",
    node: "test", prefix: `t${randomBytes(6).toString("hex")}`, partitions: 2, replicas: 1, storage: "file",
    timeoutMs: 5_000, roomsMax: 1000, keyWindowMs: 120_000, keysPerRoomMax: 1000, payloadBytesMax: 65_536, arrivingBytesMax: 131_072,
    namespaceOf: () => "test", namespaces: new Map(), log: quiet,
  };
}

export interface TestBroker {
  readonly broker: NatsBroker;
  readonly delivered: { readonly room: string; readonly text: string; readonly publication: Stored }[];
  /** Rooms whose stream has begun anew. */
  readonly moved: { readonly room: string; readonly position: Position }[];
  open(room: string, retention?: Retention): Promise<Answer<Position>>;
  publish(room: string, text: string, more?: Partial<Draft> & { readonly retention?: Retention }): Promise<Answer<Published>>;
  history(room: string, query: Partial<Query> & Pick<Query, "direction">, retention?: Retention): Promise<Answer<Page>>;
  /** What was delivered to a room. */
  texts(room: string): string[];
}

export async function startBroker(t: Pick<Test, "teardown">, options: NatsBrokerOptions): Promise<TestBroker> {
  const delivered: { room: string; text: string; publication: Stored }[] = [];
  const moved: { room: string; position: Position }[] = [];
  const broker = await createNatsBroker(
    options,
    (room, publication) => void delivered.push({ room, text: textOf(publication), publication: { ...publication } }),
    (room, position) => void moved.push({ room, position }),
  );
  t.teardown(() => broker.stop());
  return {
    broker, delivered, moved,
    open: (room, retention = durable) => new Promise((resolve) => broker.open(room, retention, resolve)),
    publish: (room, text, { retention = durable, ...more } = {}) => {
      const draft = { sender: "someone", payload: new TextEncoder().encode(text), format: 0, key: "", origin: "", ...more };
      return new Promise((resolve) => broker.publish(room, retention, draft, resolve));
    },
    history: (room, query, retention = durable) => {
      const asked = { position: { epoch: "", seq: 0 }, limit: 256, bytesMax: 1e6, ...query };
      return new Promise((resolve) => broker.history(room, retention, asked, resolve));
    },
    texts: (room) => delivered.filter((one) => one.room === room).map(({ text }) => text),
  };
}

export function textOf({ payload }: Stored): string {
  return new TextDecoder().decode(payload);
}
