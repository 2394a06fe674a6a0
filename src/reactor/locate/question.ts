/** What a request to /api/connection-url asks, from its query. */
import { nameBytesMax, nameProblem } from "../../config/roomnames.ts";

export interface Question {
  /** Null: nobody in particular. */
  readonly user: string | null;
  readonly region: string;
  /** Nodes that the caller could not reach. */
  readonly not: readonly string[];
  /** Ticket of the caller's session, "" for none. */
  readonly resume: string;
}

const queryCharsMax = 4096;
const valueCharsMax = 64;
const notMax = 4;

/** A text says what is wrong. Names that mean nothing here are ignored: proxies and caches add some. */
export function readQuestion(query: string): Question | string {
  if (query.length > queryCharsMax) return `query: at most ${queryCharsMax} characters`;
  let user: string | null = null;
  let region = "";
  let resume = "";
  let not = nobody;
  for (let at = 0; at < query.length;) {
    let end = query.indexOf("&", at);
    if (end < 0) end = query.length;
    const equals = query.indexOf("=", at);
    const name = query.slice(at, equals < 0 || equals > end ? end : equals);
    const value = equals < 0 || equals > end ? "" : decoded(query.slice(equals + 1, end));
    at = end + 1;
    if (value === null) return `${name}: is not percent-encoded UTF-8`;
    switch (name) {
      case "user":
        if (user !== null) return "user: is given twice";
        user = value;
        break;
      case "region":
        region = value;
        break;
      case "resume":
        resume = value;
        break;
      case "not":
        not = [...not, ...value.split(",").filter((one) => one !== "")];
    }
  }
  const problem = user === null ? null : nameProblem("user", user, nameBytesMax);
  if (problem !== null) return problem;
  if (region.length > valueCharsMax) return `region: at most ${valueCharsMax} characters`;
  if (not.length > notMax) return `not: at most ${notMax} nodes`;
  return { user, region, not, resume };
}

const nobody: readonly string[] = [];

/** As forms and `url_dec` of haproxy decode it: a plus is a space. Null: it is malformed. */
function decoded(value: string): string | null {
  if (!value.includes("%") && !value.includes("+")) return value;
  try {
    return decodeURIComponent(value.replaceAll("+", " "));
  } catch {
    return null;
  }
}
