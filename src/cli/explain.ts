/** Explains a token: its claims, and whether a node with this configuration would accept it. */
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from "jose";
import { grantOf } from "../auth/claims.ts";
import { readKeys } from "../auth/files.ts";
import { createVerifier } from "../auth/verifier.ts";
import { hasKey, type Config } from "../config/config.ts";
import { rightNames, type Grant } from "../auth/grants.ts";

export interface Explanation {
  readonly text: string;
  readonly isGood: boolean;
}

type Row = readonly [title: string, text: string];
const known = ["sub", "tenant", "aud", "iss", "iat", "nbf", "exp", "rooms", "send", "limits"];
const valueCharsMax = 200;

/** @throws ConfigError if the keys cannot be read. */
export async function explain(token: string, config: Config): Promise<Explanation> {
  const { verdict, isGood } = await judge(token, config);
  const rows: Row[] = [...decoded(token), ["verdict", verdict]];
  const width = Math.max(...rows.map(([title]) => title.length));
  const text = rows.map(([title, said], i) => `${(title === rows[i - 1]?.[0] ? "" : title).padEnd(width)}  ${said}`).join("\n");
  return { text, isGood };
}

async function judge(token: string, config: Config): Promise<{ verdict: string; isGood: boolean }> {
  if (!hasKey(config)) {
    return { verdict: "not checked: no key is configured; set --auth-secret, --auth-keys or --auth-jwks-url", isGood: false };
  }
  let away = "";
  const verifier = createVerifier({ config, keys: readKeys(config), onOutage: (problem) => (away = problem === null ? "" : ` (${problem})`) });
  const found = await verifier.verify(token);
  if ("refused" in found) return { verdict: `refused, ${found.refused}: ${found.text.replace(/^token: /, "")}${away}`, isGood: false };
  return { verdict: "valid: a configured key has signed it, and it has not expired", isGood: true };
}

/** The claims, whether or not the signature is valid: that is for the verdict. */
function decoded(token: string): Row[] {
  let header: Record<string, unknown>;
  let claims: JWTPayload;
  try {
    header = { ...decodeProtectedHeader(token) };
    claims = decodeJwt(token);
  } catch {
    // The verdict gives the reason.
    return [["token", "cannot be read: it is not a JWT"]];
  }
  const rows: Row[] = [["algorithm", shown(header.alg)]];
  if (header.kid !== undefined) rows.push(["key", shown(header.kid)]);
  rows.push(["user", shown(claims.sub)]);
  if (claims.tenant !== undefined) rows.push(["tenant", shown(claims.tenant)]);
  if (claims.aud !== undefined) rows.push(["audience", [claims.aud].flat().map(shown).join(", ")]);
  if (claims.iss !== undefined) rows.push(["issuer", shown(claims.iss)]);
  rows.push(["issued", time(claims.iat) ?? "unknown (no iat): rejected for good after a sign-out of its user"]);
  if (claims.nbf !== undefined) rows.push(["valid from", time(claims.nbf) ?? shown(claims.nbf)]);
  rows.push(["expires", claims.exp === undefined ? "never" : (time(claims.exp) ?? shown(claims.exp))]);
  const read = grantOf(claims);
  rows.push(...("grant" in read ? allowed(read.grant) : [["claims", read.problem] as const]));
  const ignored = Object.keys(claims).filter((name) => !known.includes(name));
  if (ignored.length > 0) rows.push(["ignored", ignored.map(shown).join(", ")]);
  return rows;
}

function allowed({ rooms, send, commandsPerSecond, roomsMax }: Grant): Row[] {
  const rules = rooms?.map(({ pattern, rights }) => `${pattern}: ${rights.join(", ") || "nothing"}`);
  const inRooms = rules ?? [`every room of the tenant: ${rightNames.join(", ")}`];
  const rows: Row[] = inRooms.length === 0 ? [["rooms", "none"]] : inRooms.map((text) => ["rooms", text]);
  rows.push(["send", send ? "direct messages to every user of the tenant" : "no direct messages"]);
  rows.push(["limits", `${commandsPerSecond ?? "the node's"} commands a second, ${roomsMax ?? "the node's"} rooms`]);
  return rows;
}

/** A time, and how long from now or ago it is. */
function time(seconds: unknown): string | null {
  if (typeof seconds !== "number" || Math.abs(seconds) > 8.64e12) return null;
  const away = Math.round(seconds - Date.now() / 1000);
  return `${new Date(seconds * 1000).toISOString().replace(".000", "")}, ${away < 0 ? `${span(-away)} ago` : `in ${span(away)}`}`;
}

function span(seconds: number): string {
  const units = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]] as const;
  const [name, size] = units.find(([, size]) => seconds >= 2 * size) ?? ["second", 1];
  const count = Math.floor(seconds / size);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

/** On one line without control characters, which a terminal would obey. */
function shown(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "none");
  const safe = text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "�");
  return safe.length > valueCharsMax ? `${safe.slice(0, valueCharsMax)}…` : safe;
}
