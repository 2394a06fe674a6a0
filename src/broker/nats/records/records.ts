/**
 * The records of partitions and of the nodes that hold them, on a connection of their own: a renewal must not wait
 * behind publications.
 */
import type { NatsAccess } from "../connection/access.ts";
import { connectNats, watchNats, type NatsLog } from "../connection/connection.ts";
import { openBucket, type Bucket } from "./bucket.ts";

export interface RecordsOptions extends NatsAccess {
  /** Name of this connection in NATS. */
  readonly node: string;
  readonly prefix: string;
  readonly replicas: number;
  /** Age at which the record of a node that does not renew it expires. */
  readonly leaseMs: number;
  /** Of each request. */
  readonly answerMs: number;
  readonly log: NatsLog;
}

export interface NatsRecords {
  readonly leases: Bucket;
  readonly assignments: Bucket;
  /** Called when the connection is lost, and when it is back. */
  onAway: () => void;
  onBack: () => void;
  close(): Promise<void>;
}

/** @throws NatsProblem */
export async function openRecords(options: RecordsOptions): Promise<NatsRecords> {
  const { node, prefix, replicas, leaseMs, answerMs: timeoutMs, log } = options;
  const connection = await connectNats(options, `${node} leases`);
  try {
    const common = { connection, prefix, replicas, timeoutMs, log };
    const leases = await openBucket({ ...common, name: "LEASES", maxAgeMs: leaseMs });
    const assignments = await openBucket({ ...common, name: "PARTITIONS", maxAgeMs: 0 });
    const records: NatsRecords = {
      leases,
      assignments,
      onAway() {},
      onBack() {},
      async close() {
        if (!connection.isClosed()) await connection.close();
      },
    };
    watchNats(connection, log, {
      disconnected: () => records.onAway(),
      reconnected: () => records.onBack(),
      refused: (denied, problem) => log.error({ ...denied, problem }, "NATS: the server refuses what leases need; allow the node's user to publish to $KV.> and to subscribe to the subjects of the gateway"),
    });
    return records;
  } catch (error) {
    await connection.close();
    throw error;
  }
}
