/** Whether NATS is there: a node that it has been away from for longer than a grace is not ready. */
import type { ConnectionUsage } from "../broker/broker.ts";
import type { Logger } from "../platform/log/log.ts";
import type { NodeState } from "../link/threads.ts";

/** How often it is looked. */
const lookMs = 250;

/** Looks until what it returns is called. */
export function watchNatsAway(usage: () => ConnectionUsage, graceMs: number, state: NodeState, log: Logger): () => void {
  let since = 0;
  let before = false;
  const timer = setInterval(() => {
    since = usage().away ? since || performance.now() : 0;
    const away = since > 0 && performance.now() - since >= graceMs;
    if (away === before) return;
    before = state.cutOff = away;
    if (away) log.warn(`NATS has been away for ${graceMs} ms: the node is not ready until it is back`);
    else log.info("NATS is back: the node is ready again");
  }, lookMs).unref();
  return () => clearInterval(timer);
}
