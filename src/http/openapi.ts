/** The OpenAPI 3.1 description of the HTTP API, from the schemas that check its requests. */
import * as z from "zod";
import type { RequestErrorCode } from "../errors.ts";
import { version } from "../platform/version.ts";
import type { ApiCall } from "./call.ts";
import { problems, problemType } from "../protocol/problems.ts";
import { basePath, calls } from "./table.ts";

/** Any call may answer them. */
export const commonErrors: readonly RequestErrorCode[] = ["bad_request", "unauthorized", "forbidden", "rate_limited", "internal", "overloaded", "unavailable"];

export const parameterTexts: Readonly<Record<string, string>> = {
  room: "Name of the room, percent-encoded: `chat:general`.",
  user: "Name of the user, percent-encoded.",
};

export function openApi(): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const call of calls) (paths[call.path.replaceAll(/:(\w+)/g, "{$1}")] ??= {})[call.method.toLowerCase()] = operation(call);
  return {
    openapi: "3.1.0",
    info: { title: "flux-gateway HTTP API", version, description: "What a backend does without a socket: publish, read, see who is there, decide." },
    servers: [{ url: basePath }],
    security: [{}, { key: [] }],
    paths,
    components: {
      securitySchemes: { key: { type: "http", scheme: "bearer", description: "API key. On loopback, a node without keys needs none." } },
      schemas: { Problem: problemSchema },
    },
  };
}

function operation({ name, title, text, scope, path, query, body, status, answer, errors, example }: ApiCall): object {
  return {
    operationId: name,
    summary: title,
    description: `${text}\n\nScope: \`${scope}\`.`,
    parameters: [...namesIn(path).map(pathParameter), ...queryParameters(query)],
    ...(body !== null && { requestBody: { required: true, content: { "application/json": { schema: schemaOf(body, "input"), example: example.body } } } }),
    responses: {
      [status]: { description: "Done.", content: { [typeof example.answer === "string" ? "text/event-stream" : "application/json"]: { schema: schemaOf(answer, "input"), example: example.answer } } },
      ...Object.fromEntries(Object.entries(byStatus([...commonErrors, ...errors])).map(([status, codes]) => [status, refused(codes)])),
    },
  };
}

export function namesIn(path: string): string[] {
  return [...path.matchAll(/:(\w+)/g)].map(([, name]) => name!);
}

function pathParameter(name: string): object {
  return { name, in: "path", required: true, description: parameterTexts[name], schema: { type: "string" } };
}

export interface Field {
  readonly name: string;
  readonly description: string;
  readonly schema: Readonly<Record<string, unknown>>;
  readonly required: boolean;
}

interface ObjectSchema {
  readonly properties?: Record<string, Record<string, unknown>>;
  readonly required?: readonly string[];
  /** Of an array. */
  readonly items?: ObjectSchema;
}

/** The fields of an object's schema, or of each element of an array. */
export function fieldsOf(schema: z.ZodType): Field[] {
  const { items, ...whole } = schemaOf(schema, "output") as ObjectSchema;
  const { properties = {}, required = [] } = items ?? whole;
  const prefix = items === undefined ? "" : "[].";
  return Object.entries(properties).map(([name, { description = "", ...schema }]) => ({ name: prefix + name, description: String(description), schema, required: required.includes(name) }));
}

function queryParameters(query: z.ZodType): object[] {
  return fieldsOf(query).map(({ name, description, schema, required }) => ({ name, in: "query", required, description, schema }));
}

function byStatus(codes: readonly RequestErrorCode[]): Record<number, RequestErrorCode[]> {
  const all: Record<number, RequestErrorCode[]> = {};
  for (const code of codes) (all[problems[code].status] ??= []).push(code);
  return all;
}

function refused(codes: readonly RequestErrorCode[]): object {
  const description = codes.map((code) => `\`${code}\`: ${problems[code].text}`).join("; ");
  return { description, content: { [problemType]: { schema: { $ref: "#/components/schemas/Problem" } } } };
}

/** Of answers, only what is there: fields may be added. */
export function schemaOf(schema: z.ZodType, io: "input" | "output"): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io });
  return rest;
}

const problemSchema = {
  type: "object",
  required: ["type", "title", "status", "detail", "code", "retryable", "requestId"],
  properties: {
    type: { type: "string" }, title: { type: "string" }, status: { type: "integer" }, detail: { type: "string", description: "What happened, in a sentence." },
    code: { enum: Object.keys(problems) },
    retryable: { type: "boolean", description: "The same request may succeed later without any change to it." },
    requestId: { type: "string", description: "As in the header X-Request-Id and in the node's log." },
  },
};
