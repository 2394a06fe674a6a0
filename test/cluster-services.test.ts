/** Three nodes, NATS and Redis as processes of their own, and what can happen to NATS and to Redis while members talk. */
import t from "tap";
import { testFaults } from "./support/aftermath.ts";

t.setTimeout(1_200_000);

await testFaults(t, ["NATS", "Redis"]);
