/** Describes the first error in a request, in one sentence that names the field. */
import type * as z from "zod";

/** @param whole the name of the request where no single field is wrong: `body` or `query`. */
export function problemOf({ issues }: z.ZodError, whole: "body" | "query"): string {
  const issue = issues[0];
  if (issue === undefined) return `${whole}: malformed`;
  const field = issue.path.join(".");
  const said = sentence(issue, whole);
  // The error of a name begins with the field already.
  return said.startsWith(`${field}:`) && field !== "" ? said : `${field || whole}: ${said}`;
}

function sentence(issue: z.core.$ZodIssue, whole: string): string {
  switch (issue.code) {
    case "invalid_type":
      if (issue.path.length === 0) return "must be a JSON object";
      return `${issue.message.endsWith("received undefined") ? "is missing; it " : ""}must be ${article(issue.expected)}`;
    case "too_small":
      return `must be at least ${issue.minimum}${unit(issue.origin)}`;
    case "too_big":
      return `must be at most ${issue.maximum}${unit(issue.origin)}`;
    case "unrecognized_keys":
      return `unknown field ${issue.keys.slice(0, namedMax).map((key) => JSON.stringify(key.slice(0, shownMax))).join(", ")}${issue.keys.length > namedMax ? ` and ${issue.keys.length - namedMax} more` : ""}`;
    case "invalid_union":
      return issue.path.length === 0 ? `the ${whole} is malformed` : "is not an allowed value";
    case "custom":
      return issue.message;
    default:
      return "is malformed";
  }
}

const shownMax = 64;
/** Of unknown fields: a body may have thousands. */
const namedMax = 3;

function article(expected: string): string {
  const word = expected === "int" ? "whole number" : expected;
  return `${/^[aeiou]/.test(word) ? "an" : "a"} ${word}`;
}

function unit(origin: string): string {
  return origin === "string" ? " characters long" : origin === "array" ? " items long" : "";
}
