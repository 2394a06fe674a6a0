/** The page of the calls, at `/api/v1/docs`: for people, from the same table as the checks. It loads nothing. */
import { version } from "../platform/version.ts";
import type { ApiCall } from "./call.ts";
import { commonErrors, fieldsOf, namesIn, parameterTexts, type Field } from "./openapi.ts";
import { problems } from "../protocol/problems.ts";
import { pageStyle } from "./pagestyle.ts";
import { basePath, calls } from "./table.ts";

export function docsPage(): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>flux-gateway HTTP API</title><style>${pageStyle}</style></head><body>
<nav aria-label="Calls"><a class="brand" href="#top">flux-gateway <small>${escape(version)}</small></a>
<ul>${calls.map((call) => `<li><a href="#${call.name}"><span class="method ${call.method}">${call.method}</span>${escape(call.title)}</a></li>`).join("")}
<li><a href="#errors">Errors</a></li></ul></nav>
<main id="top"><h1>HTTP API</h1>
<p>What a backend does without a socket. Every path is below <code>${basePath}</code>. Requests and answers are JSON; a body needs <code>Content-Type: application/json</code>.</p>
<p>With API keys or an admin key, each request needs <code>Authorization: Bearer KEY</code>. Without keys, a port on loopback is open to the programs of its machine, and closed to web pages. <a href="openapi.json">openapi.json</a> describes the same calls for machines.</p>
${calls.map(section).join("\n")}
<section id="errors"><h2>Errors</h2><p>An error is <code>application/problem+json</code>. Quote its <code>requestId</code> when you look into the log of the node. A <code>retryable</code> request may be repeated without any change, after <code>Retry-After</code> seconds where that is given.</p>
<table><thead><tr><th>status</th><th>code</th><th>retryable</th><th>when</th></tr></thead><tbody>
${Object.entries(problems).map(([code, { status, retryable, text }]) => `<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td>${retryable ? "yes" : "no"}</td><td>${escape(text)}</td></tr>`).join("\n")}
</tbody></table></section>
</main></body></html>
`;
}

function section(call: ApiCall): string {
  const { name, method, path, title, text, scope, query, body, errors } = call;
  const parts = namesIn(path).map((name) => ({ name, description: parameterTexts[name] ?? "", schema: { type: "string" }, required: true }));
  return `<section id="${name}"><h2>${escape(title)}</h2>
<p class="request"><span class="method ${method}">${method}</span><code>${escape(basePath + path.replaceAll(/:(\w+)/g, "{$1}"))}</code><span class="scope">scope ${scope}</span></p>
<p>${prose(text)}</p>
${fields("In the path", parts)}${fields("In the query", fieldsOf(query))}${body === null ? "" : fields("In the body", fieldsOf(body))}
<h3>Example</h3><pre>${escape(curlOf(call))}</pre><pre class="answer">${escape(answerOf(call))}</pre>
<p class="errors">Errors: ${[...errors, ...commonErrors].map((code) => `<a href="#${code}"><code>${code}</code></a>`).join(", ")}</p></section>`;
}

function fields(title: string, list: readonly Field[]): string {
  if (list.length === 0) return "";
  const rows = list.map(({ name, description, schema, required }) => `<tr><td><code>${escape(name)}</code>${required ? "" : " <small>optional</small>"}</td><td>${escape(typeOf(schema))}</td><td>${prose(description)}</td></tr>`);
  return `<h3>${title}</h3><table class="fields"><tbody>${rows.join("")}</tbody></table>`;
}

export function typeOf({ type, enum: values, items }: Field["schema"]): string {
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(" or ");
  if (type === "array") return `array of ${typeOf((items ?? {}) as Field["schema"])}`;
  return typeof type === "string" ? type : "any";
}

/** The example as a person would send it. */
export function curlOf({ method, example: { path, body } }: ApiCall, base = `http://127.0.0.1:8081${basePath}`): string {
  const url = `'${base}${path}'`;
  if (body === undefined) return method === "GET" ? `curl ${url}` : `curl -X ${method} ${url}`;
  return `curl ${method === "POST" ? "" : `-X ${method} `}${url} -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body)}'`;
}

export function answerOf({ example: { answer } }: ApiCall): string {
  return typeof answer === "string" ? answer : JSON.stringify(answer, null, 2);
}

function prose(text: string): string {
  return escape(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
