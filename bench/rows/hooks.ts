/**
 * Handshakes as in the row of that name, with a connect hook: its backend answers after 5 ms, or is dead and hookOnFailure
 * allows. Beside it, the same node without a hook, before and after, so that drift affects all alike.
 */
import { freePort } from "../../src/node/ports.ts";
import { cpuSeconds } from "../proc.ts";
import { startServer } from "../servers/start.ts";
import { between, connectPatiently, read, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const warmUpSockets = 2000;
const secondsGuessed = 8;
const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

export const hooksRow: Row = {
  name: "hooks",
  title: ({ sockets }) => `Connect hook: ${sockets.toLocaleString("en")} handshakes as fast as possible, one reactor`,
  servers: ["flux"],
  metrics: [
    { key: "without", title: "without a hook", unit: "/s", digits: 0 },
    { key: "asked", title: "a backend that answers after 5 ms", unit: "/s", digits: 0 },
    { key: "askedRatio", title: "  ÷ without", unit: "", digits: 2 },
    { key: "askedRefused", title: "  refused for want of a verdict, and tried again", unit: "", digits: 0 },
    { key: "dead", title: "a dead backend, hookOnFailure allow", unit: "/s", digits: 0 },
    { key: "deadRatio", title: "  ÷ without", unit: "", digits: 2 },
    { key: "withoutMicros", title: "server CPU, without a hook", unit: "µs each", digits: 1 },
    { key: "askedMicros", title: "server CPU, asked", unit: "µs each", digits: 1 },
    { key: "deadMicros", title: "server CPU, dead backend", unit: "µs each", digits: 1 },
    { key: "otherCores", title: "rest of the machine, without a hook", unit: "cores", digits: 2 },
  ],
  compared: "asked",
  bars: [
    { metric: "askedRatio", of: "value", atLeast: 0.5 },
    { metric: "deadRatio", of: "value", atLeast: 0.9 },
  ],
  secondsPlanned: () => 4 * secondsGuessed,
  run,
};

interface Handshakes {
  readonly rate: number;
  readonly micros: number;
  /** Closed with 3014, and tried again: the backend gave no verdict in time. */
  readonly refused: number;
  readonly otherCores: number;
}

async function run(_: string, scale: Scale, say: Say): Promise<Values> {
  const backend = await startServer("hookbackend", { reactors: 1, profileDir: scale.profileDir });
  try {
    const hook = (port: number) => ["--hook-secret", secret, "--hook-connect", `http://127.0.0.1:${port}/`];
    const before = await handshakes("without a hook", [], scale, say);
    // A loaded machine must not turn late answers into refusals, for which this load would wait for ever.
    const asked = await handshakes("asked", hook(backend.port), scale, say);
    const dead = await handshakes("a dead backend", [...hook(await freePort()), "--hook-on-failure", "allow"], scale, say);
    const after = await handshakes("without a hook", [], scale, say);
    const without = (before.rate + after.rate) / 2;
    return {
      without, asked: asked.rate, askedRatio: asked.rate / without, askedRefused: asked.refused, dead: dead.rate, deadRatio: dead.rate / without,
      withoutMicros: (before.micros + after.micros) / 2, askedMicros: asked.micros, deadMicros: dead.micros, otherCores: Math.max(before.otherCores, after.otherCores),
    };
  } finally {
    await backend.stop();
  }
}

/** After a warm-up, in which the breaker of a dead backend opens. */
function handshakes(title: string, flags: readonly string[], { sockets, profileDir }: Scale, say: Say): Promise<Handshakes> {
  return withCrew("flux", { reactors: 1, profileDir, flags }, 1, async (crew) => {
    const [thread] = crew.threads;
    if (!thread) throw new Error("a load thread was asked for");
    say(`${title}: warming up`, 2);
    await connectPatiently(thread, crew.server, "echo", Math.min(warmUpSockets, sockets / 2));
    say(title, secondsGuessed);
    const first = read(crew);
    const cpuBefore = cpuSeconds(crew.server.pid);
    const refused = await connectPatiently(thread, crew.server, "echo", sockets);
    const cpu = cpuSeconds(crew.server.pid) - cpuBefore;
    const { seconds, otherCores } = between(first, read(crew));
    return { rate: sockets / seconds, micros: (cpu / sockets) * 1e6, refused, otherCores };
  });
}
