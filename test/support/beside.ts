/** Runs what a test does to the node beside two members who exchange publications, and judges what became of those. */
import type { Test } from "tap";
import { startLoad } from "./load.ts";

let rooms = 0;

export async function beside(t: Test, node: { port: number }, misbehave: () => Promise<void>): Promise<void> {
  const load = await startLoad(node, { room: `beside${rooms++}`, seed: t.name });
  await misbehave();
  const verdict = await load.stop();
  t.equal(verdict.faults, 0, verdict.report);
}
