/** The nodes of the gateway. */
import * as z from "zod";
import { ApiError } from "../../api/error.ts";
import { call } from "../call.ts";

export const nodesCall = call({
  name: "nodes",
  method: "GET",
  path: "/nodes",
  scope: "admin",
  title: "List the nodes",
  text: "The nodes of the gateway as this node knows them, this one first. A key of a tenant may not ask: nodes serve all tenants.",
  query: z.strictObject({}),
  body: null,
  status: 200,
  answer: z.object({
    node: z.string().describe("The node that answers."),
    nodes: z.array(z.looseObject({ id: z.string(), state: z.string(), url: z.string() })),
    complete: z.boolean().describe("False: Redis is unavailable, and the list may be out of date."),
  }),
  errors: [],
  example: {
    path: "/nodes",
    answer: { node: "node-1924fa88", nodes: [{ id: "node-1924fa88", state: "up", url: "ws://10.0.0.7:8080/ws" }], complete: true },
  },
  serve({ nodes }, request) {
    if ((request.caller.tenant ?? "") !== "") throw new ApiError("forbidden", "the key belongs to a tenant, and nodes serve all tenants");
    const { node, nodes: all, stale } = nodes();
    request.answer(200, { node, nodes: all, complete: !stale });
  },
});
