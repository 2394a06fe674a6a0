/** `flux-gateway token`: creates secrets and tokens for development, and explains a token. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Option, type Command } from "commander";
import { time } from "../../config/values.ts";
import { ConfigError } from "../../config/config.ts";
import { rightNames } from "../../auth/grants.ts";
import { addFlags, readFlags } from "../flags.ts";
import { explain } from "../explain.ts";
import { loadConfig } from "../load.ts";
import { readSigner, signToken, type Claims } from "../sign.ts";

const examples = `
Signed with authSecret, wherever a node finds it (--auth-secret, FLUX_AUTH_SECRET, the file of --config), or with --key.
For development: in production the service that knows your users makes their tokens.

Examples:
  flux-gateway token secret                                       a secret for authSecret
  flux-gateway token --sub ann                                    ann may do everything, for an hour
  flux-gateway token --sub ann --rooms 'chat:*=join,publish' --rooms 'news:*=join'
  flux-gateway token --sub bot --key private.pem --kid 2026-01 --expires never
  flux-gateway token explain TOKEN                                its claims, and whether a node would accept it`;

const isForTokens = (key: string): boolean => key.startsWith("auth");
const lifetime = time(1000, 3650 * 86_400_000);

export function addTokenCommand(program: Command): void {
  const token = program
    .command("token")
    .description("Make a token for development, or explain one.")
    .helpCommand("help [command]", "Print help for a command.")
    .usage("[options] | secret | explain [options] <token> | help [command]")
    .addHelpText("after", examples);
  const claim = (flags: string, text: string) => new Option(flags, text).helpGroup("Claims:");
  addFlags(token, (key) => key === "authSecret")
    .addOption(claim("--sub <user>", "User of the token."))
    .addOption(claim("--tenant <tenant>", "Tenant of the user."))
    .addOption(
      claim("--rooms <pattern=rights>", `Rights in rooms that match the pattern: ${rightNames.join(", ")} or all. May be repeated.`).argParser(collect),
    )
    .addOption(claim("--no-send", "Deny sending direct messages."))
    .addOption(claim("--expires <time>", "Lifetime of the token, or never.").default("1h"))
    .addOption(claim("--aud <audience>", "Audience of the token. May be repeated.").argParser(collect))
    .addOption(claim("--iss <issuer>", "Issuer of the token."))
    .addOption(claim("--limit-commands-per-second <n>", "Commands per second of a session with this token."))
    .addOption(claim("--limit-rooms <n>", "Rooms of a session with this token."))
    .addOption(new Option("--key <file>", "Private key (PEM or JWK) to sign with, in place of authSecret.").helpGroup("Signature:"))
    .addOption(new Option("--kid <name>", "Key id, for nodes that have several keys.").helpGroup("Signature:"))
    .action((_, command: Command) => make(command));

  token
    .command("secret")
    .description("Print a new random secret.")
    .action(() => console.log(randomBytes(32).toString("base64url")));

  addFlags(token.command("explain").description("Print the claims of a token, and whether a node with these options would accept it."), isForTokens)
    .argument("<token>", "the token, or - to read it from standard input")
    .action((given: string, _, command: Command) => explainToken(given, command));
}

async function make(command: Command): Promise<void> {
  const options = command.opts<TokenOptions>();
  const { key, kid } = options;
  const { config } = loadConfig(authFlags(command), process.env);
  const signer = readSigner(key, config.authSecret);
  console.log(await signToken(claimsOf(options), signer, kid));
}

async function explainToken(given: string, command: Command): Promise<void> {
  const { config } = loadConfig(authFlags(command), process.env);
  const token = (given === "-" ? readFileSync(0, "utf8") : given).trim().replace(/^bearer +/i, "");
  const { text, isGood } = await explain(token, config);
  console.log(text);
  process.exitCode = isGood ? 0 : 1;
}

interface TokenOptions {
  readonly sub?: string;
  readonly tenant?: string;
  readonly rooms?: readonly string[];
  readonly send: boolean;
  readonly expires: string;
  readonly aud?: readonly string[];
  readonly iss?: string;
  readonly limitCommandsPerSecond?: string;
  readonly limitRooms?: string;
  readonly key?: string;
  readonly kid?: string;
}

/** Options of the node among the command's. `explain` is a subcommand: both it and `token` accept them. */
function authFlags(command: Command): ReturnType<typeof readFlags> {
  const { given, configFile } = readFlags(command);
  const outer = command.parent === null ? {} : command.parent.opts();
  const all = Object.entries({ ...outer, ...given }).filter(([key]) => isForTokens(key));
  return { given: Object.fromEntries(all), configFile: configFile ?? (typeof outer.config === "string" ? outer.config : undefined) };
}

/** @throws ConfigError */
function claimsOf(options: TokenOptions): Claims {
  const { sub, tenant, rooms, send, aud, iss } = options;
  if (sub === undefined || sub === "") throw new ConfigError(["--sub: missing; name the user of the token, such as --sub ann"]);
  const now = Math.floor(Date.now() / 1000);
  const limits = {
    ...limit("commandsPerSecond", "--limit-commands-per-second", options.limitCommandsPerSecond),
    ...limit("rooms", "--limit-rooms", options.limitRooms),
  };
  return {
    sub,
    ...(tenant !== undefined && { tenant }),
    ...(aud !== undefined && { aud: aud.length === 1 ? aud[0] : aud }),
    ...(iss !== undefined && { iss }),
    iat: now,
    ...(options.expires !== "never" && { exp: now + expiresIn(options.expires) }),
    ...(rooms !== undefined && { rooms: Object.fromEntries(rooms.map(roomRule)) }),
    ...(!send && { send }),
    ...(Object.keys(limits).length > 0 && { limits }),
  };
}

function expiresIn(text: string): number {
  const parsed = lifetime.schema.safeParse(text);
  if (!parsed.success) throw new ConfigError([`--expires: ${parsed.error.issues[0]?.message}; or never`]);
  return Math.ceil(parsed.data / 1000);
}

function limit(claim: string, flag: string, text: string | undefined): Record<string, number> {
  if (text === undefined) return {};
  if (!/^\d{1,9}$/.test(text)) throw new ConfigError([`${flag}: must be a whole number, not ${JSON.stringify(text)}`]);
  return { [claim]: Number(text) };
}

/** `chat:*=join,publish`. A pattern may contain an equals sign: the last one separates. */
function roomRule(text: string): [string, readonly string[]] {
  const at = text.lastIndexOf("=");
  const wanted = `must look like 'chat:*=join,publish', with rights of ${rightNames.join(", ")} or all`;
  if (at < 1) throw new ConfigError([`--rooms ${text}: ${wanted}`]);
  const rights = text.slice(at + 1).split(",").map((right) => right.trim());
  if (rights.length === 1 && rights[0] === "all") return [text.slice(0, at), rightNames];
  const wrong = rights.find((right) => !rightNames.some((name) => name === right));
  if (wrong !== undefined) throw new ConfigError([`--rooms ${text}: ${wanted}; unknown right ${JSON.stringify(wrong)}`]);
  return [text.slice(0, at), rights];
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
