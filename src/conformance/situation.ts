/** What the kit plays, and what comes of it. */
import type { Stage } from "./stage.ts";

/** What a client may lack. The other situations are for every client. */
export const features = ["inbox", "presence", "refresh"] as const;
export type Feature = (typeof features)[number];

export function isFeature(name: string): name is Feature {
  return (features as readonly string[]).includes(name);
}

export interface Situation {
  /** Its name: the first part of the path to connect to, and what `--only` takes. */
  readonly name: string;
  /** What a right client does, in one sentence. */
  readonly title: string;
  /** The heading of docs/protocol.md that promises it. */
  readonly read: string;
  readonly needs?: Feature;
  /** Plays the node's side. Throws a Failure where the client does something else. */
  play(stage: Stage): Promise<void>;
}

export interface Result {
  readonly situation: Situation;
  readonly outcome: "passed" | "failed" | "skipped" | "not played";
  /** What the client did wrong, in plain words; "" unless it failed. */
  readonly fault: string;
  /** What the client may do better, without being wrong. */
  readonly advice: readonly string[];
  /** The wire format that the client spoke; "" where it did not connect. */
  readonly format: string;
  /** The last frames, oldest first. */
  readonly trace: readonly string[];
}
