/**
 * The sessions of all nodes on one Redis. A session belongs to the node with its highest generation, and only that node
 * may write it. Later writes of a node with an older socket change nothing. While Redis is unavailable, a node keeps
 * its writes and sends them later. So this also holds where Redis has lost who took a session. A disconnected user gets
 * a mark: all sessions that began before it are over, on any node.
 */
import type { Position } from "../../broker/broker.ts";
import { randomId } from "../../platform/ids.ts";
import type { Command, RedisLink } from "../../redis/redis.ts";
import { cursorTtlMs } from "../cursors.ts";
import { watchEnded } from "./ended.ts";
import { Endings } from "./endings.ts";
import { assignRoom, endSession, endUser, keepSession, moveCursor, putSession, signOutUser, takeSession } from "./scripts.ts";
import type { SessionRecord, Sessions, SessionsHere } from "../sessions.ts";
import { recordOf, textOf } from "../text.ts";
import { Writes, type Write } from "../../redis/writes.ts";

export interface RedisSessionsOptions {
  readonly redis: RedisLink;
  readonly prefix: string;
  /** This node. */
  readonly node: string;
  readonly ttlMs: number;
  readonly log: { warn(fields: object, text: string): void };
  /** Writes that wait while Redis is unavailable. */
  readonly waitingMax?: number;
  /** Redis has lost this session, or may have missed changes to some (null): put them again. */
  onForgotten(id: string | null): void;
  /** A write was refused: the session belongs to another node. Its next owner gets this generation or a higher one. */
  onTaken(id: string, generation: number): void;
  /** Messages of other nodes may have been missed: the rooms of users may have changed. */
  onMissed?(): void;
  /** The sessions with a socket here, among which those that other nodes have ended are found. */
  readonly sockets?: SessionsHere;
}

export interface RedisSessions extends Sessions {
  writes(): { readonly waiting: number; readonly dropped: number };
}

const waitingMaxDefault = 50_000;
/** Devices of one user whose cursors are kept. */
const devicesMax = 1_000;
/** A mark lasts at least this long. Only a node that missed the disconnect can renew a session beyond that. */
const markMsMin = 86_400_000;

export function createRedisSessions(options: RedisSessionsOptions): RedisSessions {
  const { redis, prefix, node, ttlMs, log, waitingMax = waitingMaxDefault, onForgotten, onTaken, sockets } = options;
  const sessionKey = (id: string) => `${prefix}session:${id}`;
  const markKey = (user: string) => `${prefix}ended:${user}`;
  const outKey = (user: string) => `${prefix}signedout:${user}`;
  const cursorKey = (user: string) => `${prefix}cursor:${user}`;
  const assignedKey = (user: string) => `${prefix}assigned:${user}`;
  /** Names this run of the process: another process under the same node name is another owner. */
  const runId = randomId(9);
  const writes = new Writes({ redis, what: "sessions", waitingMax, log, onDone, onDropped: () => onForgotten(null) });

  const endings = redis.isCluster ? new Endings({ writes, mark, put }) : null;

  // After a failover Redis may name earlier owners again.
  redis.onAnother(() => onForgotten(null));
  const missed = () => options.onMissed?.();
  redis.onMissed(missed);
  redis.onUp(missed);
  const unwatch = sockets && watchEnded({ redis, sessionKey, markKey, outKey, sockets, log });

  /**
   * Handles the result of a keep or a put: the session is missing, is not this node's yet, or belongs to another node.
   */
  function onDone({ of, command }: Write, result: unknown): void {
    const id = of.slice(1);
    if (command[0] === keepSession && result === 0) onForgotten(id);
    if ((command[0] === keepSession || command[0] === putSession) && Array.isArray(result)) onTaken(id, Number(result[0]) + 1);
  }

  function put(record: SessionRecord): void {
    const { id, generation } = record;
    writes.put(`s${id}`, [putSession, sessionKey(id), node, runId, generation, textOf(record), ttlMs]);
  }

  function mark(user: string): void {
    writes.put(`e${user}`, [endUser, markKey(user), Math.max(2 * ttlMs, markMsMin)]);
  }

  const read = (of: string, ...command: Command) => writes.read(of, command);

  async function taken(id: string, known: number): Promise<{ record: SessionRecord | null; generation: number }> {
    await endings?.untilPut(id);
    const found = await read(`s${id}`, takeSession, sessionKey(id), node, runId, known);
    if (!Array.isArray(found)) return { record: null, generation: known + 1 };
    const [text, owner, began, generation] = found as [string, string, string, number];
    const record = recordOf(id, text);
    await endings?.untilMade(userOf(record));
    const endedAt = await redis.run("get", markKey(userOf(record)));
    if (typeof endedAt === "string" && Number(began) <= Number(endedAt)) return { record: null, generation };
    // The text is as last put. The node that has taken it since may not have put it yet.
    return { record: owner === node ? record : { ...record, node: owner }, generation };
  }

  return {
    outlivesProcess: true,

    put(record) {
      if (endings?.hold(userOf(record), record) !== true) put(record);
    },

    keep(id, generation) {
      // A waiting put has the same effect. The keep has its own name, so that it does not replace a failed put.
      const waiting = writes.take(`s${id}`);
      if (waiting !== undefined) writes.put(`s${id}`, waiting);
      else writes.put(`k${id}`, [keepSession, sessionKey(id), runId, generation, ttlMs]);
    },

    take(id, known, done) {
      redis.answer(taken(id, known), (answer) => {
        if ("value" in answer) done({ value: answer.value.record }, answer.value.generation);
        else done(answer, known + 1);
      });
    },

    end(id, generation) {
      endings?.drop(id);
      writes.put(`s${id}`, [endSession, sessionKey(id), runId, generation]);
    },

    endAll(tenant, user) {
      const of = userOf({ tenant, user });
      if (endings !== null) return endings.end(of);
      mark(of);
      // Earlier puts must reach Redis before the mark, and a node that learns of the mark must find it.
      writes.flush();
    },

    cursor(user, device, done) {
      redis.answer(read(`c${user}\n${device}`, "hget", cursorKey(user), device).then(positionOf), done);
    },

    acknowledge(user, device, { epoch, seq }) {
      const of = `c${user}\n${device}`;
      const waiting = writes.take(of);
      // Forward only, also among the waiting writes.
      if (waiting !== undefined && waiting[3] === epoch && Number(waiting[4]) > seq) return writes.put(of, waiting);
      writes.put(of, [moveCursor, cursorKey(user), device, epoch, seq, cursorTtlMs, devicesMax]);
    },

    signOut(user, time) {
      const waiting = writes.take(`o${user}`);
      writes.put(`o${user}`, [signOutUser, outKey(user), Math.max(time, Number(waiting?.[2] ?? 0))]);
    },

    signedOutAt(user, done) {
      redis.answer(read(`o${user}`, "get", outKey(user)).then((time) => Number(time ?? 0)), done);
    },

    // Not among the writes that wait for Redis: the application learns at once that Redis is unavailable.
    assign(user, room, max, done) {
      redis.answer(redis.run(assignRoom, assignedKey(user), room, max), (answer) => {
        if ("error" in answer) done(answer);
        else done(answer.value === 0 ? { error: "too_many_rooms" } : { value: null });
      });
    },

    unassign(user, room, done) {
      redis.answer(redis.run("srem", assignedKey(user), room).then(() => null), done);
    },

    assigned(user, done) {
      redis.answer(redis.run("smembers", assignedKey(user)).then((rooms) => (Array.isArray(rooms) ? rooms.map(String) : [])), done);
    },

    usage() {
      return { sessions: 0, cursors: 0 };
    },

    writes() {
      return { waiting: writes.size, dropped: writes.dropped };
    },

    async stop() {
      unwatch?.();
      await endings?.untilAllMade();
      await writes.stop();
    },
  };
}

/** As roomkeys.ts composes it, which this folder may not import. */
function userOf({ tenant, user }: Pick<SessionRecord, "tenant" | "user">): string {
  return `${tenant}\u001f${user}`;
}

function positionOf(text: unknown): Position | null {
  const [, seq, epoch] = /^(\d+):\d+:(.*)$/s.exec(String(text ?? "")) ?? [];
  return seq === undefined || epoch === undefined ? null : { epoch, seq: Number(seq) };
}
