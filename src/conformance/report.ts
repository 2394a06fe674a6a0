/** What a person reads about the results. */
import type { Result } from "./situation.ts";

const page = "docs/protocol.md";
/** Frames shown for a failure: the last ones. */
const framesShown = 12;
const mark = { passed: "pass", failed: "FAIL", skipped: "skip", "not played": "none" } as const;

export function describeResult({ situation, outcome, fault, advice, format, trace }: Result): string {
  const lines = [`${mark[outcome]}  ${situation.name.padEnd(14)} ${situation.title}${format === "" ? "" : ` (${format})`}`];
  if (outcome === "skipped") lines.push(`      without ${situation.needs}`);
  if (outcome === "failed") {
    lines.push(`      ${fault}`, `      Read: ${page}, "${situation.read}"`);
    if (trace.length > 0) lines.push("      Frames, the last ones (→ client, ← node):", ...trace.slice(-framesShown).map((line) => `        ${line}`));
  }
  lines.push(...advice.map((text) => `      advice: ${text}`));
  return lines.join("\n");
}

export function describeSum(results: readonly Result[]): string {
  const count = (outcome: Result["outcome"]) => results.filter((result) => result.outcome === outcome).length;
  const parts = [`${count("passed")} of ${results.length - count("skipped")} situations passed`];
  if (count("failed") > 0) parts.push(`${count("failed")} failed: ${results.filter(({ outcome }) => outcome === "failed").map(({ situation }) => situation.name).join(", ")}`);
  if (count("not played") > 0) parts.push(`${count("not played")} not played`);
  if (count("skipped") > 0) parts.push(`${count("skipped")} skipped`);
  return `${parts.join(". ")}.`;
}

/** For programs. */
export function toJson(results: readonly Result[]): string {
  return JSON.stringify(results.map(({ situation: { name, title }, ...rest }) => ({ situation: name, title, ...rest })), null, 2);
}

export function isSound(results: readonly Result[]): boolean {
  return results.every(({ outcome }) => outcome === "passed" || outcome === "skipped");
}
