/**
 * `GET /placement` of the admin port: the table of owners. `?user=ann&tenant=acme` says where a user belongs and why,
 * `?plan=+gateway-4,-gateway-2,gateway-1=2` what would move if the nodes were others.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import type { Explanation, Overview, Plan } from "../placement/explain.ts";
import type { Survey } from "../messages/survey.ts";
import type { PartitionReport } from "../placement/leases/holderoptions.ts";
import { tenantShape, userShape } from "./names.ts";
import { problemOf } from "./problem.ts";
import { answer, queryOf, Refused } from "./request.ts";

export interface Placements {
  overview(): Overview;
  explain(tenant: string, user: string): Explanation;
  /** A text says what is wrong with the changes. */
  plan(changes: string): Plan | string;
  /** Who holds each partition, as this node knows it. Null: users have no holder. */
  partitions(): readonly PartitionReport[] | null;
  /** The user's sessions on all nodes. */
  sessionsOf(tenant: string, user: string): Promise<Survey<"user">>;
}

/** An explanation, and where the user's sessions are. */
export type Explained = Explanation & { readonly sessions: Survey<"user"> };

const planCharsMax = 8_192;
const asked = z.strictObject({ user: userShape.optional(), tenant: tenantShape, plan: z.string().max(planCharsMax).optional() });

/** @throws Refused */
export async function servePlacement(req: IncomingMessage, res: ServerResponse, placements: Placements): Promise<void> {
  // Callers write the plus of a plan as it is, which would be read as a space.
  const query = queryOf(req.url?.replace(/(?<=[?&])plan=[^&]*/g, (plan) => plan.replaceAll("+", "%2B")));
  const parsed = asked.safeParse(query);
  if (!parsed.success) throw new Refused(400, "bad_request", problemOf(parsed.error, "query"));
  const { user, tenant, plan: changes } = parsed.data;
  if (user !== undefined) {
    const sessions = await placements.sessionsOf(tenant, user);
    return answer(res, 200, { ...placements.explain(tenant, user), sessions } satisfies Explained);
  }
  if (changes === undefined) {
    const partitions = placements.partitions();
    return answer(res, 200, { ...placements.overview(), ...(partitions !== null && { held: partitions }) });
  }
  const plan = placements.plan(changes);
  if (typeof plan === "string") throw new Refused(400, "bad_request", plan);
  answer(res, 200, plan);
}
