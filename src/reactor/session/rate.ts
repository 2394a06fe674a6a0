/**
 * Commands and bytes per second: the generic cell rate algorithm (ITU-T I.371), a token bucket in one number. Every command
 * costs 1/rate seconds; a session may be ahead of the clock by what its burst costs. Bytes are paid for when they have
 * been read, so a session can owe some: while it does, its commands are refused, and its socket is not read where the
 * transport can do that.
 */
import { historyLimitDefault, pageSizeMax } from "../../protocol/limits.ts";
import type { ClientFrame } from "../../protocol/messages.ts";
import type { Context } from "../context.ts";
import { closeSession, refuse } from "../outgoing.ts";
import type { Session } from "./session.ts";

/** Seconds of the allowed rate that may be used at once. */
const burstSeconds = 2;

/** Publications read from the history for the cost of one command: about what they cost the hub beside a publish. */
const publicationsPerCommand = 16;
/** A recovery's length is not known before it is read. */
const recoveryCost = 8;
/** A token that is not known costs a signature, which for some keys is a fifth of a millisecond. */
const refreshCost = 20;

/** A session that is over the rate of bytes this long without a rest does not slow down by being paused. */
const overMsMax = 30_000;

/** What a frame costs, in commands: reading history is more work than anything else, and it is the hub's; pages of users come near it. */
export function costOf({ history, join, refresh, presence, watch, unwatch }: ClientFrame): number {
  if (history != null) return 1 + readingCost(history.limit || historyLimitDefault);
  if (presence != null) return presence.countsOnly ? 1 : 1 + readingCost(presence.limit || pageSizeMax);
  const users = watch?.users ?? unwatch?.users;
  if (users != null) return 1 + readingCost(users.length);
  if (refresh != null) return refreshCost;
  if (join == null) return 1;
  return 1 + (join.recover == null ? readingCost(join.history ?? 0) : recoveryCost);
}

function readingCost(limit: number): number {
  return Math.min(limit, pageSizeMax) / publicationsPerCommand;
}

/**
 * Bytes came from the session. False: it was closed, for it does not stop. While it owes bytes its socket is not read; uWS's
 * WebSocket has to be, and there its commands are refused.
 */
export function chargeBytes(context: Context, session: Session, bytes: number): boolean {
  const { bytesPerSecond } = context.config;
  if (bytesPerSecond === 0) return true;
  const { bytesPaidUntil, bytesOverSince } = context.sessions;
  const { slot } = session;
  const time = performance.now();
  const until = Math.max(bytesPaidUntil[slot]!, time) + (bytes * 1000) / bytesPerSecond;
  bytesPaidUntil[slot] = until;
  const burstMs = bytesBurstMs(context.config);
  const debtMs = until - time - burstMs;
  // As with commands: forgiven once half a burst has been saved up.
  if (debtMs <= -burstMs / 2) bytesOverSince[slot] = 0;
  if (debtMs <= 0) return true;
  if (bytesOverSince[slot] === 0) {
    bytesOverSince[slot] = time;
    refuseBytes(context, session, 0);
  }
  if (debtMs > burstMs || time - bytesOverSince[slot]! > overMsMax) {
    closeSession(context, session, "rate_limited");
    return false;
  }
  session.socket?.pauseFor?.(debtMs);
  return true;
}

function refuseBytes(context: Context, session: Session, id: number): void {
  context.counters.add("rateLimited", 1);
  if (session.state === "ready") refuse(context, session, id, "rate_limited", `more than ${context.config.bytesPerSecond} bytes per second`);
}

/** Whatever the rate, two frames of any size fit into a burst. */
function bytesBurstMs({ bytesPerSecond, frameBytesMax }: Context["config"]): number {
  return Math.max(burstSeconds * 1000, (2 * frameBytesMax * 1000) / bytesPerSecond);
}

/** Whether the session has sent more bytes than it may by now. */
function owesBytes({ config, sessions }: Context, { slot }: Session): boolean {
  return config.bytesPerSecond > 0 && sessions.bytesPaidUntil[slot]! - performance.now() > bytesBurstMs(config);
}

/** False: the command was refused, or the session closed because it does not stop. */
export function admitCommand(context: Context, session: Session, id: number, cost: number): boolean {
  const rate = session.grant?.commandsPerSecond ?? context.config.commandsPerSecond;
  if (session.socket?.pauseFor === undefined && owesBytes(context, session)) {
    refuseBytes(context, session, id);
    return false;
  }
  if (rate === 0) return true;
  const { paidUntil } = context.sessions;
  const time = performance.now();
  // Whatever the rate, one command of any kind fits into a burst.
  const costMs = Math.min((cost * 1000) / rate, burstSeconds * 500);
  const from = Math.max(paidUntil[session.slot]!, time);
  if (from - time <= burstSeconds * 1000 - costMs) {
    paidUntil[session.slot] = from + costMs;
    // Forgiven once half a burst has been saved up: even in a flood one command gets through every few milliseconds.
    if (from - time <= (burstSeconds * 1000) / 2) session.refusals = 0;
    return true;
  }
  context.counters.add("rateLimited", 1);
  // Whoever ignores as many refusals as a burst holds is not slowing down: answering costs more than closing.
  if (++session.refusals > burstSeconds * rate) closeSession(context, session, "rate_limited");
  else refuse(context, session, id, "rate_limited");
  return false;
}
