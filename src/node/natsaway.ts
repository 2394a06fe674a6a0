/** Watches NATS: a node whose NATS is unavailable for longer than the grace period is not ready. */
import type { ConnectionUsage } from "../broker/broker.ts";
import type { Logger } from "../platform/log/log.ts";
import type { NodeState } from "../link/threads.ts";

/** Interval of the check. */
const lookMs = 250;

/** Watches until the returned function is called. */
export function watchNatsAway(usage: () => ConnectionUsage, graceMs: number, state: NodeState, log: Logger): () => void {
  let since = 0;
  let before = false;
  const timer = setInterval(() => {
    since = usage().away ? since || performance.now() : 0;
    const away = since > 0 && performance.now() - since >= graceMs;
    if (away === before) return;
    before = state.cutOff = away;
    if (away) log.warn(`NATS has been unavailable for ${graceMs} ms: the node is not ready until NATS is back; check the NATS servers`);
    else log.info("NATS is back: the node is ready again");
  }, lookMs).unref();
  return () => clearInterval(timer);
}
