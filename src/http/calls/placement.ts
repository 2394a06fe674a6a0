/** Where users belong. */
import * as z from "zod";
import { checkUser } from "../../api/checks.ts";
import { call, tenant } from "../call.ts";

export const placementCall = call({
  name: "placement",
  method: "GET",
  path: "/placement",
  scope: "read",
  title: "Ask where a user belongs",
  text: "The node that serves a user, as this node knows it. `node` is null where every node may serve the user: the option `placement` is `any`, or there is no table yet. With `partition` it is null while no node holds the user's partition.",
  query: z.strictObject({ tenant, user: z.string().describe("Name of the user.") }),
  body: null,
  status: 200,
  answer: z.object({
    user: z.string(),
    mode: z.enum(["any", "hash", "partition"]).describe("The option `placement`."),
    partition: z.number().int().describe("Part of all users that this user is in."),
    table: z.number().int().describe("Number of the table of owners in use; 0: there is none yet."),
    node: z.string().nullable(),
    url: z.string().nullable().describe("WebSocket URL of the node."),
  }),
  errors: [],
  example: { path: "/placement?user=ann", answer: { user: "ann", mode: "any", partition: 17, table: 0, node: null, url: null } },
  serve({ placement }, request) {
    const user = checkUser(request.query.user);
    const owner = placement.nodes[placement.ownerOf(request.tenant, user)];
    request.answer(200, { user, mode: placement.mode, partition: placement.partitionOf(request.tenant, user), table: placement.table, node: owner?.id ?? null, url: owner?.url ?? null });
  },
});
