/**
 * Finds sessions that another node ended while this one missed the message. Messages are missed while the connection
 * for channels is down. Redis has the marks of disconnected users and their sign-outs. So this node looks them up for
 * every user with a socket here: when the channels are subscribed again, once more soon after, and at a long interval.
 * The second look is for a node that had to wait for Redis as well; the interval is for any other loss of a message.
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

/** Looks from now on, until the returned function is called. */
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

  /** Runs one look at a time. A message missed meanwhile causes another look after it. */
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
      lookSoon(); // Redis is unavailable, or refuses this now
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
      log.warn({ sessions: over.length }, "sessions were ended by other nodes while this node got no messages from Redis: they are closed now");
      redis.contain(() => sockets.end(over));
    }
  }

  /** @throws the error of the first command that Redis refused. */
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
