/**
 * The sessions of all nodes on one Redis. A session belongs to the node with its highest generation, and only that one may
 * write it: what an older socket's node has still to say of it counts no more. A node keeps what it has while Redis is away
 * and says it again, so this holds also where Redis has forgotten who took what. Users who are disconnected get a mark;
 * sessions that began before it are over, wherever they are.
 */
import type { Position } from "../../broker/broker.ts";
import { randomId } from "../../platform/ids.ts";
import type { Command, RedisLink } from "../../redis/redis.ts";
import { cursorTtlMs } from "../cursors.ts";
import { watchEnded } from "./ended.ts";
import { Endings } from "./endings.ts";
import { endSession, endUser, keepSession, moveCursor, putSession, signOutUser, takeSession } from "./scripts.ts";
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
  /** Writes that wait while Redis is away. */
  readonly waitingMax?: number;
  /** Redis does not have this session any more, or may not have heard of changes to some (null): put them again. */
  onForgotten(id: string | null): void;
  /** A write was refused: the session is another node's. Whoever takes it from now on gets this generation or a higher one. */
  onTaken(id: string, generation: number): void;
  /** Those that have a socket here: what other nodes ended while they could not be heard is looked for among them. */
  readonly sockets?: SessionsHere;
}

export interface RedisSessions extends Sessions {
  writes(): { readonly waiting: number; readonly dropped: number };
}

const waitingMaxDefault = 50_000;
/** Of one user, whose places in the inbox are remembered. */
const devicesMax = 1_000;
/** A session that outlives the mark of a disconnected user has been kept alive by a node that was not told. */
const markMsMin = 86_400_000;

export function createRedisSessions(options: RedisSessionsOptions): RedisSessions {
  const { redis, prefix, node, ttlMs, log, waitingMax = waitingMaxDefault, onForgotten, onTaken, sockets } = options;
  const sessionKey = (id: string) => `${prefix}session:${id}`;
  const markKey = (user: string) => `${prefix}ended:${user}`;
  const outKey = (user: string) => `${prefix}signedout:${user}`;
  const cursorKey = (user: string) => `${prefix}cursor:${user}`;
  /** Of this process: another that was started under the node's name is another owner. */
  const life = randomId(9);
  const writes = new Writes({ redis, what: "sessions", waitingMax, log, onDone, onDropped: () => onForgotten(null) });

  const endings = redis.isCluster ? new Endings({ writes, mark, put }) : null;

  // It may have it that they are still whose they were before.
  redis.onAnother(() => onForgotten(null));
  const unwatch = sockets && watchEnded({ redis, sessionKey, markKey, outKey, sockets, log });

  /** Of what was kept alive and is not there, or not this node's yet, and of what is another's. */
  function onDone({ of, command }: Write, result: unknown): void {
    const id = of.slice(1);
    if (command[0] === keepSession && result === 0) onForgotten(id);
    if ((command[0] === keepSession || command[0] === putSession) && Array.isArray(result)) onTaken(id, Number(result[0]) + 1);
  }

  function put(record: SessionRecord): void {
    const { id, generation } = record;
    writes.put(`s${id}`, [putSession, sessionKey(id), node, life, generation, textOf(record), ttlMs]);
  }

  function mark(user: string): void {
    writes.put(`e${user}`, [endUser, markKey(user), Math.max(2 * ttlMs, markMsMin)]);
  }

  const read = (of: string, ...command: Command) => writes.read(of, command);

  async function taken(id: string, known: number): Promise<{ record: SessionRecord | null; generation: number }> {
    await endings?.untilPut(id);
    const found = await read(`s${id}`, takeSession, sessionKey(id), node, life, known);
    if (!Array.isArray(found)) return { record: null, generation: known + 1 };
    const [text, owner, began, generation] = found as [string, string, string, number];
    const record = recordOf(id, text);
    await endings?.untilMade(userOf(record));
    const endedAt = await redis.run("get", markKey(userOf(record)));
    if (typeof endedAt === "string" && Number(began) <= Number(endedAt)) return { record: null, generation };
    // The text is as it was put last; whoever took it since may not have put it yet.
    return { record: owner === node ? record : { ...record, node: owner }, generation };
  }

  return {
    outlivesProcess: true,

    put(record) {
      if (endings?.hold(userOf(record), record) !== true) put(record);
    },

    keep(id, generation) {
      // A put that waits does as much. By a name of its own: it is not in place of one that has failed.
      const waiting = writes.take(`s${id}`);
      if (waiting !== undefined) writes.put(`s${id}`, waiting);
      else writes.put(`k${id}`, [keepSession, sessionKey(id), life, generation, ttlMs]);
    },

    take(id, known, done) {
      redis.answer(taken(id, known), (answer) => {
        if ("value" in answer) done({ value: answer.value.record }, answer.value.generation);
        else done(answer, known + 1);
      });
    },

    end(id, generation) {
      endings?.drop(id);
      writes.put(`s${id}`, [endSession, sessionKey(id), life, generation]);
    },

    endAll(tenant, user) {
      const of = userOf({ tenant, user });
      if (endings !== null) return endings.end(of);
      mark(of);
      // Sessions that were put before it must be there before it, and whoever hears of it must find it.
      writes.flush();
    },

    cursor(user, device, done) {
      redis.answer(read(`c${user}\n${device}`, "hget", cursorKey(user), device).then(positionOf), done);
    },

    acknowledge(user, device, { epoch, seq }) {
      const of = `c${user}\n${device}`;
      const waiting = writes.take(of);
      // Forward only, among those that wait as well.
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

/** As roomkeys.ts composes it, which is above this. */
function userOf({ tenant, user }: Pick<SessionRecord, "tenant" | "user">): string {
  return `${tenant}\u001f${user}`;
}

function positionOf(text: unknown): Position | null {
  const [, seq, epoch] = /^(\d+):\d+:(.*)$/s.exec(String(text ?? "")) ?? [];
  return seq === undefined || epoch === undefined ? null : { epoch, seq: Number(seq) };
}
