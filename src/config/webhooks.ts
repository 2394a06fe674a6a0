/** The endpoints that webhooks tell: their options, and which facts each of them gets. */
import * as z from "zod";
import { factKinds } from "../facts/facts.ts";
import { isRecord, type Namespaces } from "./namespaces.ts";
import { label, nearest, type Source } from "./sources.ts";
import { kindsNamed } from "./told.ts";
import { backendUrl, hidden, list, signingSecret, type Check, type Checked } from "./values.ts";

const eventName = list(/^[a-z.*]{1,32}$/, "names of events such as room.occupied, or room.*", "events");
const namespaceNames = list(/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/, "names of namespaces", "namespaces");

export const webhookRows = {
  url: { check: backendUrl(), default: "", text: "URL that is told. Required." },
  events: { check: eventName, default: [], text: `Events that it is told: ${factKinds.join(", ")}; or room.*, member.*, user.*, session.*. Without it all.` },
  namespaces: { check: namespaceNames, default: [], text: "Namespaces whose rooms it is told of. Without it all." },
  secret: { check: signingSecret(), default: "", text: "Key that signs what it is told. Without it hookSecret." },
  secretPrevious: { check: signingSecret(), default: "", text: "Previous secret: each message carries a signature of both." },
} as const;

type Rows = typeof webhookRows;
export type WebhookKey = keyof Rows;
type Fields = { readonly [K in WebhookKey]: Checked<Rows[K]["check"]> };
export const webhookKeys = Object.keys(webhookRows) as WebhookKey[];
/** By name. */
export type WebhooksGiven = { readonly [name: string]: Fields };

const nameOfEndpoint = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$/;
const endpointsMax = 16;

/** Reads the option. The first thing that is wrong becomes its problem. */
export function webhooksCheck(): Check<WebhooksGiven> {
  const allowed = "a JSON object of endpoints, each an object of its options";
  const properties = Object.fromEntries(webhookKeys.map((key) => [key, { description: webhookRows[key].text, ...webhookRows[key].check.json }]));
  const endpoint = { type: "object", additionalProperties: false, required: ["url"], properties };
  return {
    schema: schemaOf(),
    takes: "json",
    allowed,
    show: (value) => (Object.keys(value).length === 0 ? "" : JSON.stringify(withoutSecrets(value))),
    json: { type: ["object", "string"], additionalProperties: false, patternProperties: { [nameOfEndpoint.source]: endpoint } },
  };
}

function schemaOf(): Check<WebhooksGiven>["schema"] {
  return z.unknown().transform((given, context): WebhooksGiven => {
    const read = readWebhooks(given);
    if (typeof read !== "string") return read;
    context.issues.push({ code: "custom", message: read, input: given });
    return z.NEVER;
  });
}

/** The endpoints, or what is wrong. */
function readWebhooks(given: unknown): WebhooksGiven | string {
  const value = typeof given === "string" ? parsed(given) : given;
  if (!isRecord(value)) return 'must be a JSON object such as {"main":{"url":"https://example.com/webhooks"}}';
  const entries = Object.entries(value);
  if (entries.length > endpointsMax) return `more than ${endpointsMax} endpoints`;
  const endpoints: Record<string, Fields> = {};
  for (const [name, options] of entries) {
    if (!nameOfEndpoint.test(name)) return `${JSON.stringify(name)}: the name of an endpoint has 1 to 32 letters, digits, "_" or "-"`;
    if (!isRecord(options)) return `${name}: must be an object of options such as {"url":"https://example.com/webhooks"}`;
    const read = readEndpoint(options);
    if (typeof read === "string") return `${name}.${read}`;
    endpoints[name] = read;
  }
  return endpoints;
}

function readEndpoint(options: Record<string, unknown>): Fields | string {
  const fields: Partial<Record<WebhookKey, unknown>> = {};
  for (const [key, value] of Object.entries(options)) {
    const known = webhookKeys.find((one) => one === key);
    const near = nearest(key, webhookKeys);
    if (known === undefined) return `${key}: unknown option${near === undefined ? "" : `; did you mean ${near}?`}`;
    if (value === undefined) continue;
    const result = webhookRows[known].check.schema.safeParse(value);
    if (!result.success) return `${key}: ${result.error.issues[0]?.message}`;
    fields[known] = result.data;
  }
  for (const key of webhookKeys) fields[key] ??= webhookRows[key].default;
  const read = fields as Fields;
  if (read.url === "") return "url: is missing";
  const wrong = read.events.find((event) => kindsNamed(event).length === 0);
  if (wrong === undefined) return read;
  return `events: there is no event ${wrong}; there are ${factKinds.join(", ")}`;
}

/** What is wrong with the webhooks together with other options. */
export function webhookProblems(options: { readonly webhooks: WebhooksGiven; readonly hookSecret: string; readonly namespaces: Namespaces }, refused: ReadonlySet<string>, sourceOf: (key: string) => Source): string[] {
  if (refused.has("webhooks")) return [];
  return Object.entries(options.webhooks).flatMap(([name, { secret, secretPrevious, namespaces }]) => {
    const said = (key: string, text: string) => `${label(sourceOf("webhooks"), "webhooks", `${name}.${key}`)}: ${text}`;
    const unknown = namespaces.filter((one) => options.namespaces[one] === undefined);
    return [
      ...(secret === "" && options.hookSecret === "" && !refused.has("hookSecret") ? [said("secret", "what it is told is signed, and there is no key; set it, or hookSecret for all")] : []),
      ...(secret === "" && secretPrevious !== "" ? [said("secretPrevious", "there is no current key; set secret")] : []),
      ...unknown.map((one) => said("namespaces", `there is no namespace ${one}`)),
    ];
  });
}

function withoutSecrets(value: WebhooksGiven): object {
  return Object.fromEntries(Object.entries(value).map(([name, fields]) => [
    name,
    Object.fromEntries(webhookKeys.filter((key) => fields[key].length > 0).map((key) => [key, key.startsWith("secret") ? hidden : fields[key]])),
  ]));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller rejects it, like any other value that is no object
  }
}
