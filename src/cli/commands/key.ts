/** `flux-gateway key`: the keys of the HTTP API, in a file that nodes read again, or in the Redis of the nodes. */
import { Option, type Command } from "commander";
import { ConfigError } from "../../config/config.ts";
import { nameBytesMax, nameProblem } from "../../config/roomnames.ts";
import { time } from "../../config/values.ts";
import { keyNamePattern, KeyStoreProblem, patternCharsMax, perSecondMax, reservedNames, scopeNames, type KeyRecord, type KeyWriter, type Scope } from "../../keystore/keystore.ts";
import { openKeyWriter } from "../../node/keystores.ts";
import { printable } from "../../platform/log/quoted.ts";
import { addFlags, readFlags } from "../flags.ts";
import { created, revoked, rotated, type Made, type NewKey } from "../keychanges.ts";
import { loadConfig } from "../load.ts";
import { tableOf } from "../table.ts";

const examples = `
The keys are in the file of --api-keys, or else in the Redis of --redis: the same options as the nodes have.
A secret is shown once, when it is made. Nodes follow a change within 5 seconds.

Examples:
  flux-gateway key create shop --scope publish,read --rooms 'orders:*' --expires 90d --api-keys keys
  flux-gateway key create ops --scope admin --redis redis://10.0.0.5
  flux-gateway key rotate shop --keep 24h             a second secret; the first is valid for another day
  flux-gateway key revoke shop`;

const placeOptions = ["apiKeys", "redis", "redisPrefix", "redisTlsCa", "redisAnswerMs"];
const lifetime = time(1000, 3650 * 86_400_000);
const keptFor = time(0, 3650 * 86_400_000);

export function addKeyCommand(program: Command): void {
  const key = program.command("key").description("Create, list, rotate and revoke keys of the HTTP API.").helpCommand("help [command]", "Print help for a command.").addHelpText("after", examples);
  const sub = (name: string, text: string) => addFlags(key.command(name).description(text), (option) => placeOptions.includes(option));
  const named = (name: string, text: string) => sub(name, text).argument("<name>", "name of the key: letters, digits, \"_\", \".\" and \"-\"");

  named("create", "Create a key and print its secret.")
    .addOption(new Option("--scope <scopes>", `Calls that the key may make: ${scopeNames.join(", ")}, separated by commas. admin includes the others.`).argParser(collect))
    .addOption(new Option("--rooms <pattern>", "Rooms that the key covers, with * for any characters. May be repeated. Without it: every room.").argParser(collect))
    .option("--tenant <name>", "Tenant of the key. Without it: rooms and users without a tenant.")
    .option("--all-tenants", "Let requests name any tenant.", false)
    .option("--expires <time>", "Lifetime of the key, such as 90d, or never.", "never")
    .option("--requests-per-second <n>", "Requests per second of this key, on each node. Without it: no limit.")
    .option("--publications-per-second <n>", "Publications per second of this key, on each node. Without it: no limit.")
    .action((name: string, _, command: Command) => create(name, command));
  sub("list", "List the keys, without their secrets.").option("--json", "Print JSON.", false).action((_, command: Command) => list(command));
  named("rotate", "Add a second secret to a key and print it. The first one expires.")
    .option("--keep <time>", "Time for which the first secret stays valid. 0: no longer.", "24h")
    .action((name: string, _, command: Command) => rotate(name, command));
  named("revoke", "Revoke a key, or one of its two secrets.")
    .option("--secret <id>", "The secret to revoke, by its id. Without it: the whole key.")
    .action((name: string, _, command: Command) => revoke(name, command));
}

interface CreateGiven {
  readonly scope?: readonly string[];
  readonly rooms?: readonly string[];
  readonly tenant?: string;
  readonly allTenants: boolean;
  readonly expires: string;
  readonly requestsPerSecond?: string;
  readonly publicationsPerSecond?: string;
}

async function create(given: string, command: Command): Promise<void> {
  const name = checkedName(given);
  const now = Date.now();
  const wanted = newKey(command.opts<CreateGiven>(), now);
  await make(command, name, (before) => created(name, before, wanted, now), ({ key }) => `key ${name} created: ${inWords(key)}`);
}

async function rotate(given: string, command: Command): Promise<void> {
  const name = checkedName(given);
  const now = Date.now();
  const keepMs = readTime("--keep", keptFor, command.opts<{ keep: string }>().keep);
  await make(command, name, (before) => rotated(name, before, keepMs, now), ({ key: { secrets: [, old] } }) =>
    `key ${name} has a new secret${old === undefined ? "" : `; the one before (${old.id}) expires ${dateOf(old.expiresAt)}`}`);
}

async function revoke(given: string, command: Command): Promise<void> {
  const name = checkedName(given);
  const { secret } = command.opts<{ secret?: string }>();
  await at(command, async (writer, place) => {
    await writer.change(name, (before) => revoked(name, before, secret));
    console.log(`${secret === undefined ? `key ${name}` : `secret ${secret} of key ${name}`} revoked in ${place}; nodes reject it within 5 seconds`);
  });
}

async function list(command: Command): Promise<void> {
  const { json } = command.opts<{ json: boolean }>();
  await at(command, async (writer, place) => {
    const keys = await writer.list();
    if (json) return console.log(JSON.stringify(keys.map(withoutDigests), null, 2));
    console.log(keys.length === 0 ? `no keys in ${place}` : asTable(keys));
  });
}

/** Only the secret goes to standard output, so that a script can read it. */
async function make(command: Command, name: string, change: (before: KeyRecord | null) => Made, said: (made: Made) => string): Promise<void> {
  await at(command, async (writer, place) => {
    let made: Made | undefined;
    await writer.change(name, (before) => (made = change(before)).key);
    console.error(`${said(made!)}; in ${place}\nThe secret is shown only now. Nodes accept it within 5 seconds:`);
    console.log(made!.secret.text);
  });
}

/** @throws ConfigError */
async function at(command: Command, act: (writer: KeyWriter, place: string) => Promise<void>): Promise<void> {
  const { given, configFile } = readFlags(command);
  const options = Object.fromEntries(Object.entries(given).filter(([key]) => placeOptions.includes(key)));
  const { writer, place } = await openKeyWriter(loadConfig({ given: options, configFile }, process.env).config);
  try {
    await act(writer, place);
  } catch (error) {
    throw error instanceof KeyStoreProblem ? new ConfigError([`${place} ${error.message}`]) : error;
  } finally {
    await writer.stop();
  }
}

/** @throws ConfigError */
function checkedName(name: string): string {
  if (!keyNamePattern.test(name)) throw new ConfigError([`name: must be 1 to 64 letters, digits, "_", "." or "-", not ${JSON.stringify(name.slice(0, 80))}`]);
  if (reservedNames.includes(name)) throw new ConfigError([`name: metrics use ${name} for something else; choose another name`]);
  return name;
}

/** @throws ConfigError */
function newKey(given: CreateGiven, now: number): NewKey {
  const { rooms, tenant, allTenants, expires } = given;
  if (tenant !== undefined && allTenants) throw new ConfigError(["--all-tenants: cannot be combined with --tenant"]);
  const problem = tenant === undefined ? null : nameProblem("--tenant", tenant, nameBytesMax);
  if (problem !== null) throw new ConfigError([problem]);
  for (const pattern of rooms ?? []) {
    const wrong = nameProblem("--rooms", pattern, patternCharsMax);
    if (wrong !== null) throw new ConfigError([wrong]);
  }
  return {
    tenant: allTenants ? null : (tenant ?? ""),
    scopes: scopesOf(given.scope ?? []),
    rooms: rooms ?? null,
    requestsPerSecond: perSecond("--requests-per-second", given.requestsPerSecond),
    publicationsPerSecond: perSecond("--publications-per-second", given.publicationsPerSecond),
    expiresAt: expires === "never" ? 0 : now + readTime("--expires", lifetime, expires),
  };
}

function scopesOf(given: readonly string[]): Scope[] {
  const names = given.flatMap((list) => list.split(",")).map((name) => name.trim()).filter((name) => name !== "");
  const unknown = names.find((name) => !scopeNames.some((scope) => scope === name));
  if (unknown !== undefined || names.length === 0) {
    throw new ConfigError([`--scope: must be ${scopeNames.join(", ")}, or several of them separated by commas${unknown === undefined ? "" : `, not ${JSON.stringify(unknown)}`}`]);
  }
  return scopeNames.filter((scope) => names.includes(scope));
}

function perSecond(flag: string, given: string | undefined): number | null {
  if (given === undefined) return null;
  const number = /^\d{1,7}(\.\d{1,6})?$/.test(given) ? Number(given) : 0;
  if (number <= 0 || number > perSecondMax) throw new ConfigError([`${flag}: must be a number above 0 and at most ${perSecondMax}, not ${JSON.stringify(given)}`]);
  return number;
}

function readTime(flag: string, check: typeof lifetime, given: string): number {
  const { data, error } = check.schema.safeParse(given);
  if (error !== undefined) throw new ConfigError([`${flag}: ${error.issues[0]?.message}${check === lifetime ? "; or never" : ""}`]);
  return data;
}

function inWords({ scopes, rooms, tenant, expiresAt }: KeyRecord): string {
  const where = rooms === null ? "every room" : `rooms ${rooms.join(" ")}`;
  const whose = tenant === null ? " of every tenant" : tenant === "" ? "" : ` of tenant ${tenant}`;
  return `${scopes.join(", ")} in ${printable(where + whose)}; ${expiresAt === 0 ? "never expires" : `expires ${dateOf(expiresAt)}`}`;
}

function dateOf(at: number): string {
  return new Date(at).toISOString();
}

/** The digests say nothing to people, and are nobody else's business. */
function withoutDigests({ secrets, ...key }: KeyRecord): object {
  return { ...key, secrets: secrets.map(({ sha256: _, ...secret }) => secret) };
}

const titles = ["name", "scopes", "rooms", "tenant", "requests/s", "publications/s", "expires", "secrets"];

function asTable(keys: readonly KeyRecord[]): string {
  const rows = keys.map(({ name, scopes, rooms, tenant, requestsPerSecond, publicationsPerSecond, expiresAt, secrets }) => [
    name, scopes.join(","), printable(rooms === null ? "every" : rooms.join(" ")), printable(tenant === null ? "every" : tenant || "-"),
    String(requestsPerSecond ?? "-"), String(publicationsPerSecond ?? "-"), expiryOf(expiresAt),
    secrets.map(({ id, expiresAt: end }) => (end === 0 ? id : `${id} (${expiryOf(end)})`)).join(" "),
  ]);
  return tableOf(titles, rows);
}

function expiryOf(at: number): string {
  if (at === 0) return "never";
  return at <= Date.now() ? "expired" : dateOf(at);
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
