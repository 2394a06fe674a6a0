/**
 * What the client handed to its application, as its driver reports it: a publish into `conformance:log` for each. The
 * kit compares it with what the situation expects, in order.
 */
import { isDeepStrictEqual } from "node:util";
import { Format, type ClientFrame } from "../protocol/messages.ts";
import { Failure } from "./failure.ts";

/** One report, as docs/conformance.md describes it. */
export type Report =
  | { readonly kind: "publication"; readonly seq: number; readonly data: unknown }
  | { readonly kind: "gap"; readonly from: number | null; readonly to: number | null }
  | { readonly kind: "message"; readonly seq: number }
  | { readonly kind: "members"; readonly users: readonly string[] };

export const gap = (from: number | null, to: number | null): Report => ({ kind: "gap", from, to });

const shapes = 'one of {"publication": seq, "data": …}, {"gap": {"from": seq, "to": seq}}, {"message": seq}, {"members": [names]}';

/** @throws Failure where it is none */
export function readReport({ publish }: ClientFrame): Report {
  const wrong = (why: string) => new Failure(`The driver published into conformance:log what is no report: ${why}. It has to be ${shapes}.`);
  if (publish?.format !== Format.JSON) throw wrong("its format is not JSON");
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(publish.payload ?? []).toString("utf8"));
  } catch {
    throw wrong("it is not JSON");
  }
  const { publication, data, gap, message, members } = Object(value) as Record<string, unknown>;
  if (isSeq(publication)) return { kind: "publication", seq: Number(publication), data };
  if (isSeq(message)) return { kind: "message", seq: Number(message) };
  if (Array.isArray(members) && members.every((user) => typeof user === "string")) return { kind: "members", users: [...members].sort() };
  const { from, to } = Object(gap) as Record<string, unknown>;
  if (isSeq(from) && isSeq(to)) return { kind: "gap", from: Number(from), to: Number(to) };
  throw wrong(JSON.stringify(value));
}

/** 64-bit numbers may be texts in JSON. */
function isSeq(value: unknown): boolean {
  return (typeof value === "number" && Number.isSafeInteger(value)) || (typeof value === "string" && /^\d+$/.test(value));
}

/** Reports in the order in which they have to come. */
export class Expected {
  readonly #expected: Report[] = [];
  readonly #got: Report[] = [];
  /** The last list of members: lists are compared by their last state. */
  members: readonly string[] = [];
  #compared = 0;

  expect(...reports: readonly Report[]): void {
    this.#expected.push(...reports);
    this.#compare();
  }

  add(report: Report): void {
    if (report.kind === "members") {
      this.members = report.users;
      return;
    }
    this.#got.push(report);
    this.#compare();
  }

  get isComplete(): boolean {
    return this.#got.length >= this.#expected.length;
  }

  /** What is missing, for the case that it does not come. */
  get missing(): string {
    const rest = this.#expected.slice(this.#got.length).map(name);
    return rest.length === 1 ? rest[0]! : `${rest.slice(0, -1).join(", ")} and ${rest.at(-1)}`;
  }

  /** @throws Failure for what no script expects */
  end(): void {
    const extra = this.#got[this.#expected.length];
    if (extra !== undefined) throw new Failure(`${this.#surplus(extra)}.`);
  }

  #compare(): void {
    for (; this.#compared < Math.min(this.#got.length, this.#expected.length); this.#compared++) {
      const [got, expected] = [this.#got[this.#compared]!, this.#expected[this.#compared]!];
      if (!matches(got, expected)) throw new Failure(`${this.#explain(got, expected)}.`);
    }
  }

  #explain(got: Report, expected: Report): string {
    if (this.#isRepeated(got)) return this.#surplus(got);
    if (got.kind === "gap") {
      return expected.kind === "gap"
        ? `The client reported a gap from ${got.from} to ${got.to}. The gap goes from ${expected.from} to ${expected.to}`
        : `The client reported a gap from ${got.from} to ${got.to}, but nothing was lost: next is ${name(expected)}`;
    }
    if (expected.kind === "gap") return `The client delivered ${name(got)} without a report of the gap before it. Lost is what lies after ${expected.from}, up to ${expected.to}`;
    if (got.kind === "publication" && expected.kind === "publication" && got.seq === expected.seq) {
      return `The client delivered publication ${got.seq} with other data: ${JSON.stringify(got.data)}. It was ${JSON.stringify(expected.data)}`;
    }
    return `The client delivered ${name(got)} where ${name(expected)} has to come first`;
  }

  #surplus(report: Report): string {
    return this.#isRepeated(report) ? `The client delivered ${name(report)} twice` : `The client delivered ${name(report)}, which it must not`;
  }

  #isRepeated(report: Report): boolean {
    return "seq" in report && this.#got.slice(0, this.#got.indexOf(report)).some((one) => one.kind === report.kind && "seq" in one && one.seq === report.seq);
  }
}

function matches(got: Report, expected: Report): boolean {
  if (got.kind === "gap" && expected.kind === "gap") {
    return (expected.from === null || got.from === expected.from) && (expected.to === null || got.to === expected.to);
  }
  if (got.kind === "publication" && expected.kind === "publication") return got.seq === expected.seq && isDeepStrictEqual(got.data, expected.data);
  return isDeepStrictEqual(got, expected);
}

function name(report: Report): string {
  switch (report.kind) {
    case "publication": return `publication ${report.seq}`;
    case "gap": return report.from === null ? "a gap" : `the gap from ${report.from} to ${report.to}`;
    case "message": return `direct message ${report.seq}`;
    case "members": return `the members ${report.users.join(", ")}`;
  }
}
