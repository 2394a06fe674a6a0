/**
 * Settings of a node that operators change while it runs: by `POST /settings` of any admin port, and by the message
 * `settings` between nodes. A change holds until the node exits. Its next start reads the options again.
 */
import * as z from "zod";
import { weightMax } from "./ring.ts";

export interface NodeSettings {
  /** The node's part of the users, relative to the other nodes. 0: no users are assigned to it. */
  readonly weight: number;
  /** Partitions that the node may hold, with `--placement partition`; 0: no limit. Nodes of older releases do not say. */
  readonly maxPartitions?: number | undefined;
}

/** As --max-partitions. */
export const partitionsMax = 16_384;

/** The settings that change; the others stay. From outside: callers of the admin port, and other nodes. */
export const settingsShape = z.strictObject({
  weight: z.int().min(0).max(weightMax).optional(),
  maxPartitions: z.int().min(0).max(partitionsMax).optional(),
});

export type SettingsChange = z.infer<typeof settingsShape>;
