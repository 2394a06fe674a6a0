/**
 * What a call of the HTTP API is: an entry of the table (table.ts). Routing, checks, the OpenAPI description, the page
 * of the calls and the reference are made from it.
 */
import * as z from "zod";
import type { ApplicationApi } from "../api/api.ts";
import type { Scope } from "../auth/apikeys.ts";
import type { TokenMaker } from "../auth/maketoken.ts";
import type { Config } from "../config/config.ts";
import type { RequestErrorCode } from "../errors.ts";
import type { Hub } from "../hub/hub.ts";
import type { HubRooms } from "../hub/rooms.ts";
import type { PlacementView } from "../placement/view.ts";
import { keyCharsMax } from "../protocol/limits.ts";
import type { ApiRequest } from "./request.ts";
import type { Streams } from "./streams.ts";

/** What the calls reach of the node. */
export interface ApiNode {
  readonly config: Config;
  readonly hub: Hub;
  readonly rooms: HubRooms;
  readonly api: ApplicationApi;
  readonly nodes: () => { readonly node: string; readonly stale: boolean; readonly nodes: readonly object[] };
  readonly placement: PlacementView;
  /** Null: the node makes no tokens. */
  readonly makeToken: TokenMaker | null;
  readonly streams: Streams;
}

export interface Example {
  /** Below /api/v1, with the query. */
  readonly path: string;
  readonly body?: unknown;
  /** The answer's JSON. Values that differ from run to run are examples. */
  readonly answer: unknown;
}

interface Spec<Q, B> {
  /** For metrics and the log; `operationId` in OpenAPI. */
  readonly name: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below /api/v1, with `:room` and `:user`. */
  readonly path: string;
  readonly scope: Scope;
  /** In a few words, and in a few sentences. */
  readonly title: string;
  readonly text: string;
  readonly query: z.ZodType<Q>;
  /** Null: the call takes no body. */
  readonly body: z.ZodType<B> | null;
  readonly status: 200 | 201;
  readonly answer: z.ZodType;
  /** Errors besides those that any call can answer. */
  readonly errors: readonly RequestErrorCode[];
  readonly example: Example;
  /** A client's token may stand in the query, in place of a key. Default: no. */
  readonly takesToken?: boolean;
  /** Of the body: for the limits of a key. Default: none. */
  publications?(body: B): number;
  /** May throw or reject with an ApiError, before the answer has begun. */
  serve(node: ApiNode, request: ApiRequest<Q, B>): void | Promise<void>;
}

export interface ApiCall extends Spec<unknown, unknown> {
  /** A request without a query is checked as well. */
  readonly needsQuery: boolean;
}

export function call<Q, B = undefined>(spec: Spec<Q, B>): ApiCall {
  // The dispatcher gives `serve` what the schemas of the same entry have checked.
  return { ...(spec as unknown as Spec<unknown, unknown>), needsQuery: !spec.query.safeParse({}).success };
}

/** Schemas that several calls have. */
export const tenant = z.string().optional().describe("Tenant of rooms and users, for a key that reaches all tenants. Default: none.");
export const onlyTenant = z.strictObject({ tenant });
export const data = z.unknown().optional().describe("Any JSON. Give either `data` or `b64`.");
export const b64 = z.string().optional().describe("Bytes in Base64, for binary payloads.");
export const key = z.string().max(keyCharsMax).refine((text) => text.isWellFormed(), "key: contains half of a surrogate pair (invalid Unicode)").optional().describe("Idempotency key: a second publish with it has no effect. As the header Idempotency-Key.");
export const position = z.string().describe("Position in the room, `epoch:seq`: a cursor for `after` and `before`.");
export const complete = z.boolean().describe("False: members on other nodes may be missing. A node did not answer in time, or the nodes share no Redis, or it is unavailable.");
export const unanswered = z.array(z.string()).describe("Nodes without an answer.");

/** A whole number in a query. */
export function wholeNumber(min: number) {
  return z.coerce.number().int().min(min).optional();
}
