/**
 * Accounts and users of a nats-server in operator mode, as `nsc` makes them: an operator signs accounts, an account its
 * users, and a user's JWT and seed are a file of credentials.
 */
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { nkeys } from "nats";

type KeyPair = ReturnType<typeof nkeys.createUser>;

export interface Operator {
  /** For `nats-server -c`. */
  readonly config: string;
  /** Writes a file of credentials, each time of a new user. */
  creds(name: string, options?: CredsOptions): string;
}

export interface CredsOptions {
  /** Of an account that this server does not know. */
  readonly stranger?: boolean;
  /** Seconds since 1970. */
  readonly exp?: number;
  /** The seed is another user's. */
  readonly mixedUp?: boolean;
}

const none = { mem_storage: 0, disk_storage: 0, streams: 0, consumer: 0 };
const any = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

export function makeOperator(folder: string): Operator {
  const [operator, system, account] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount()];
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const accountOf = (one: KeyPair, storage: object) => jwt(operator, one, { nats: { type: "account", version: 2, limits: { ...limits, ...storage } } });
  const operatorJwt = write("operator.jwt", jwt(operator, operator, { nats: { type: "operator", version: 2 } }));
  const config = write("operator.conf", [
    `operator: "${operatorJwt}"`,
    "resolver: MEMORY",
    `system_account: ${system.getPublicKey()}`,
    `resolver_preload: { ${system.getPublicKey()}: ${accountOf(system, none)}, ${account.getPublicKey()}: ${accountOf(account, any)} }`,
  ].join("\n"));
  return {
    config,
    creds: (name, { stranger = false, exp, mixedUp = false } = {}) => {
      const user = nkeys.createUser();
      const signed = jwt(stranger ? nkeys.createAccount() : account, user, {
        ...(exp !== undefined && { exp }),
        nats: { type: "user", version: 2, subs: -1, data: -1, payload: -1, pub: {}, sub: {} },
      });
      const seed = Buffer.from((mixedUp ? nkeys.createUser() : user).getSeed()).toString();
      return write(name, [
        "-----BEGIN NATS USER JWT-----", signed, "------END NATS USER JWT------", "",
        "-----BEGIN USER NKEY SEED-----", seed, "------END USER NKEY SEED------", "",
      ].join("\n"));
    },
  };
}

/** As https://github.com/nats-io/jwt has it. */
function jwt(issuer: KeyPair, subject: KeyPair, claims: object): string {
  const common = { jti: randomUUID(), iat: Math.floor(Date.now() / 1000), iss: issuer.getPublicKey(), sub: subject.getPublicKey(), name: "test" };
  const signed = `${base64url({ typ: "JWT", alg: "ed25519-nkey" })}.${base64url({ ...common, ...claims })}`;
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString("base64url")}`;
}

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
