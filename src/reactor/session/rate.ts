/**
 * Limits of commands and bytes per second: the generic cell rate algorithm (ITU-T I.371), a token bucket in one number.
 * Every command costs 1/rate seconds. A session may be ahead of the clock by the cost of its burst. Bytes are charged
 * after they have been read, so a session can owe some. While it does, its commands are refused. Where the transport
 * can pause, the node also stops reading the socket.
 */
import { historyLimitDefault, pageSizeMax } from "../../protocol/limits.ts";
import type { ClientFrame } from "../../protocol/messages.ts";
import type { Context } from "../context.ts";
import { closeSession, refuse } from "../outgoing.ts";
import type { Session } from "./session.ts";

/** Seconds of the allowed rate that may be used at once. */
const burstSeconds = 2;

/**
 * Publications read from the history for the cost of one command. The ratio is about the hub's work for a read compared
 * with a publish.
 */
export const publicationsPerCommand = 16;
/** The length of a recovery is unknown before it is read, so its cost is fixed. */
export const recoveryCost = 8;
/** An unknown token costs a signature check, which takes a fifth of a millisecond for some keys. */
const refreshCost = 20;

/** A session that exceeds the byte rate this long without a rest is closed: pausing does not slow it down. */
const overMsMax = 30_000;

/**
 * The cost of a frame, in commands. Reading history is the most work, and the hub does it. Pages of users come near it.
 */
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
 * Charges bytes that came from the session. False: the session was closed, because it did not slow down. While it owes
 * bytes the node does not read its socket. uWS cannot pause a WebSocket, so there its commands are refused.
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
  // As with commands, the debt is forgiven once half a burst has been saved up.
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

/** Two frames of any size fit into a burst, whatever the rate. */
function bytesBurstMs({ bytesPerSecond, frameBytesMax }: Context["config"]): number {
  return Math.max(burstSeconds * 1000, (2 * frameBytesMax * 1000) / bytesPerSecond);
}

/** Whether the session has sent more bytes than it may by now. */
function owesBytes({ config, sessions }: Context, { slot }: Session): boolean {
  return config.bytesPerSecond > 0 && sessions.bytesPaidUntil[slot]! - performance.now() > bytesBurstMs(config);
}

/** Whether `admitCommand` admits a command of this cost now. */
export function wouldAdmit(context: Context, session: Session, cost: number): boolean {
  const rate = session.grant?.commandsPerSecond ?? context.config.commandsPerSecond;
  if (session.socket?.pauseFor === undefined && owesBytes(context, session)) return false;
  if (rate === 0) return true;
  const time = performance.now();
  return Math.max(context.sessions.paidUntil[session.slot]!, time) - time <= burstSeconds * 1000 - costMsOf(cost, rate);
}

/** One command of any kind fits into a burst, whatever the rate. */
function costMsOf(cost: number, rate: number): number {
  return Math.min((cost * 1000) / rate, burstSeconds * 500);
}

/** False: the command was refused, or the session was closed because it did not slow down. */
export function admitCommand(context: Context, session: Session, id: number, cost: number): boolean {
  const rate = session.grant?.commandsPerSecond ?? context.config.commandsPerSecond;
  if (session.socket?.pauseFor === undefined && owesBytes(context, session)) {
    refuseBytes(context, session, id);
    return false;
  }
  if (rate === 0) return true;
  const { paidUntil } = context.sessions;
  const time = performance.now();
  const costMs = costMsOf(cost, rate);
  const from = Math.max(paidUntil[session.slot]!, time);
  if (from - time <= burstSeconds * 1000 - costMs) {
    paidUntil[session.slot] = from + costMs;
    // Refusals are forgiven once half a burst has been saved up. Even in a flood one command passes every few
    // milliseconds.
    if (from - time <= (burstSeconds * 1000) / 2) session.refusals = 0;
    return true;
  }
  context.counters.add("rateLimited", 1);
  // A client that ignores as many refusals as a burst holds does not slow down. Closing costs less than answering.
  if (++session.refusals > burstSeconds * rate) closeSession(context, session, "rate_limited");
  else refuse(context, session, id, "rate_limited");
  return false;
}
