/** The page of the HTTP API, from the table of its calls. */
import type { ApiCall } from "../../src/http/call.ts";
import { code, table } from "../../src/cli/tables.ts";
import { commonErrors, fieldsOf, namesIn, parameterTexts } from "../../src/http/openapi.ts";
import { answerOf, curlOf, typeOf } from "../../src/http/page.ts";
import { problems } from "../../src/protocol/problems.ts";
import { basePath, calls } from "../../src/http/table.ts";

export function httpApiDoc(): string {
  return [
    table(["call", "scope", "what it does"], calls.map((call) => [`[${code(lineOf(call))}](#${anchorOf(call)})`, code(call.scope), call.title])),
    ...calls.map(section),
    "## Errors",
    `Any call may answer ${commonErrors.map(code).join(", ")}.`,
    table(["status", "code", "retryable", "when"], Object.entries(problems).map(([name, { status, retryable, text }]) => [String(status), code(name), retryable ? "yes" : "no", text])),
  ].join("\n\n");
}

function section(call: ApiCall): string {
  const { title, path, text, query, body, errors } = call;
  const fields = [
    ...namesIn(path).map((name) => [code(name), "path", "string", parameterTexts[name] ?? ""]),
    ...fieldsOf(query).map(({ name, schema, description }) => [code(name), "query", typeOf(schema), description]),
    ...(body === null ? [] : fieldsOf(body).map(({ name, schema, description, required }) => [code(name), required ? "body, required" : "body", typeOf(schema), description])),
  ];
  return [
    `## ${title}`,
    code(lineOf(call)),
    text,
    ...(fields.length === 0 ? [] : [table(["name", "in", "type", "what it is"], fields)]),
    ...(errors.length === 0 ? [] : [`Errors besides the [common ones](#errors): ${errors.map(code).join(", ")}.`]),
    `\`\`\`text\n${curlOf(call)}\n\n${answerOf(call).trim()}\n\`\`\``,
  ].join("\n\n");
}

function lineOf({ method, path }: ApiCall): string {
  return `${method} ${basePath}${path.replaceAll(/:(\w+)/g, "{$1}")}`;
}

function anchorOf({ title }: ApiCall): string {
  return title.toLowerCase().replaceAll(/[^\w -]/g, "").replaceAll(" ", "-");
}
