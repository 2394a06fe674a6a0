/**
 * Sessions that were ended by another node while this one could not hear it: what is published while the connection for
 * it is away is missed. The marks of disconnected users and their sign-outs are in Redis, so they are looked up for
 * everybody who has a socket here: when the channels can be heard again, once more soon after, since the other node may
 * have had to wait for Redis as well, and now and then, for whatever else may lose a message.
 */
import type { RedisLink } from "../../redis/redis.ts";
import type { SessionHere, SessionsHere } from "../sessions.ts";

export interface EndedOptions {
  readonly redis: RedisLink;
  readonly sessionKey: (id: string) => string;
  readonly markKey: (userKey: string) => string;
  readonly outKey: (userKey: string) => string;
  readonly sockets: SessionsHere;
  readonly log: { warn(fields: object, text: string): void };
}

const soonMs = 5_000;
const everyMs = 300_000;
/** Users that are looked up together. */
const usersMax = 250;

/** Looks from now on, until what it returns is called. */
export function watchEnded({ redis, sessionKey, markKey, outKey, sockets, log }: EndedOptions): () => void {
  let looking = false;
  let wanted = false;
  let stopped = false;
  let soon: NodeJS.Timeout | null = null;
  const missed = () => {
    void look();
    lookSoon();
  };
  redis.onMissed(missed);
  redis.onUp(missed);
  const timer = setInterval(() => void look(), everyMs).unref();

  function lookSoon(): void {
    if (stopped) return;
    soon ??= setTimeout(() => {
      soon = null;
      void look();
    }, soonMs).unref();
  }

  /** One at a time; what is missed meanwhile is looked for after it. */
  async function look(): Promise<void> {
    wanted = true;
    if (looking) return;
    looking = true;
    try {
      while (wanted && !stopped) {
        wanted = false;
        await lookOnce();
      }
    } catch {
      lookSoon(); // Redis went away, or does not answer this now
    }
    looking = false;
  }

  async function lookOnce(): Promise<void> {
    const byUser = new Map<string, SessionHere[]>();
    for (const session of sockets.here()) {
      const mates = byUser.get(session.userKey);
      if (mates === undefined) byUser.set(session.userKey, [session]);
      else mates.push(session);
    }
    const users = [...byUser.keys()];
    for (let i = 0; i < users.length && !stopped; i += usersMax) {
      const some = users.slice(i, i + usersMax);
      const [outs, marks] = await Promise.all([outKey, markKey].map((keyOf) => all(some.map((user) => ["get", keyOf(user)]))));
      const over = some.flatMap((user, at) => byUser.get(user)!.filter(({ issuedAt }) => outs![at] !== null && issuedAt <= Number(outs![at])));
      const marked = some.flatMap((user, at) => (marks![at] === null ? [] : byUser.get(user)!.map((session) => ({ session, mark: Number(marks![at]) }))));
      const began = await all(marked.map(({ session }) => ["hget", sessionKey(session.id), "began"]));
      for (const [at, { session, mark }] of marked.entries()) {
        if (began[at] !== null && Number(began[at]) <= mark && !over.includes(session)) over.push(session);
      }
      if (over.length === 0 || stopped) continue;
      log.warn({ sessions: over.length }, "sessions were ended by other nodes while this one could not hear it: they are closed now");
      redis.contain(() => sockets.end(over));
    }
  }

  /** @throws what Redis refused one with. */
  async function all(commands: readonly (readonly [string, ...string[]])[]): Promise<unknown[]> {
    if (commands.length === 0) return [];
    const results = await redis.runAll(commands);
    for (const result of results) if (result instanceof Error) throw result;
    return results;
  }

  return () => {
    stopped = true;
    clearInterval(timer);
    if (soon !== null) clearTimeout(soon);
  };
}
