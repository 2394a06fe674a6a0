/** Where `connect` may be told to go: one address, several, or a function that finds one. */
import type { Locate, Located, LocateQuestion } from "./connection/locator.ts";

/** Function that returns the address for the next attempt. */
export type FindAddress = (question: LocateQuestion) => string | Located | Promise<string | Located>;

/**
 * Asks the addresses in turn: the first at random, so that clients spread, then each after the one that failed.
 * @throws SyntaxError for an address that is none
 */
export function oneOf(urls: readonly string[], random: () => number): Locate {
  if (urls.length === 0) throw new SyntaxError("connect needs at least one address");
  for (const url of urls) if (!/^wss?:\/\/[^/]/i.test(url)) throw new SyntaxError(`${url} is not a WebSocket address`);
  const first = Math.min(urls.length - 1, Math.floor(random() * urls.length));
  const order = [...urls.slice(first), ...urls.slice(0, first)];
  let last = "";
  return ({ not }) => {
    const after = order.indexOf(last) + 1;
    // The last one again, unless it could not be reached. Nodes are named by their address here.
    last = last !== "" && !not.includes(last) ? last : order[after % order.length]!;
    return { url: last, node: last };
  };
}
