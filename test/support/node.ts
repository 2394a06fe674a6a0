/** A real node on free ports for one test, gone when the test is: the built one, as it is installed. */
import type { Test } from "tap";
import { createGateway, type Gateway } from "../../dist/index.js";

export type NodeOptions = NonNullable<Parameters<typeof createGateway>[0]>;

/** For nodes on NATS without Redis, which need one. */
export const resumeSecret = "a secret that the nodes of a test share";

/** A busy machine answers late. Tests of what happens without an answer say how long it is awaited. */
const natsTimeoutMs = 60_000;
const redisAnswerMs = 30_000;
const hookTimeoutMs = 60_000;

/**
 * Starts a node without the demo page, which only a build has; `options` are any part of its configuration. It has two
 * reactors. One of several on NATS has one: their members are on different nodes, and a reactor costs a fifth of a second of CPU.
 */
export async function startNode(t: Pick<Test, "teardown">, options: NodeOptions = {}): Promise<Gateway> {
  const gateway = await createGateway({ port: 0, adminPort: 0, reactors: options.nats ? 1 : 2, demo: false, logLevel: "silent", ...patientFor(options), ...(options.nats && !options.redis && { resumeSecret }), ...options });
  t.teardown(() => gateway.close());
  return gateway;
}

/** Options that have no meaning without their service are refused. */
function patientFor({ nats, redis, hookSecret }: NodeOptions): NodeOptions {
  return { ...(nats && { natsTimeoutMs }), ...(redis && { redisAnswerMs }), ...(hookSecret && { hookTimeoutMs }) };
}
