/**
 * Credentials for NATS: reads and checks them before use, and explains rejections with the name of the option. The
 * client library says only "TLS" or "BAD_CREDS" in most cases. Files are read again for every connection, since they
 * may be replaced before their content expires.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { refusedCode } from "./handshake.ts";
import { credsAuthenticator, type Authenticator, type ConnectionOptions, type TlsOptions } from "nats";

export interface NatsAccess {
  /** `nats://host:4222`, `tls://…`; one of them may contain user and password, or a token. */
  readonly servers: readonly string[];
  readonly user: string;
  readonly password: string;
  readonly token: string;
  /** Files. */
  readonly creds: string;
  readonly tlsCa: string;
  readonly tlsCert: string;
  readonly tlsKey: string;
}

/** An error of NATS at start that the operator can correct. */
export class NatsProblem extends Error {
  override readonly name = "NatsProblem";
}

/** @throws NatsProblem where a file is invalid. */
export function accessOptions(access: NatsAccess): Partial<ConnectionOptions> {
  const inUrl = access.servers.map(userIn).find((found) => found !== null);
  const user = access.user || inUrl?.user;
  const pass = access.password || inUrl?.password;
  const token = access.token || inUrl?.token;
  const tls = tlsFor(access);
  return {
    ...(token && { token }),
    ...(user && { user, pass: pass ?? "" }),
    ...(access.creds !== "" && { authenticator: credsIn(access.creds) }),
    ...(tls !== null && { tls }),
  };
}

/** NATS writes a token as `nats://token@host`. */
function userIn(server: string): { user?: string; password?: string; token?: string } | null {
  if (!server.includes("@")) return null;
  const { username, password } = new URL(server);
  const [first, second] = [decodeURIComponent(username), decodeURIComponent(password)];
  return second === "" ? { token: first } : { user: first, password: second };
}

// ------------------------------------------------------------------------------------- files

function credsIn(path: string): Authenticator {
  let good = readCreds(path);
  return (nonce) => {
    try {
      good = readCreds(path);
    } catch {
      // The file is being replaced, or the new one is invalid: the old content may still work.
    }
    return credsAuthenticator(good)(nonce);
  };
}

function readCreds(path: string): Buffer {
  const bytes = readFile("--nats-creds", path);
  const of = `the file of --nats-creds, ${path},`;
  try {
    // The answer to a server's challenge.
    const { jwt, nkey } = credsAuthenticator(bytes)("nonce") as { readonly jwt: string; readonly nkey: string };
    const { sub, exp } = JSON.parse(Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString()) as { sub?: string; exp?: number };
    if (sub !== nkey) throw new NatsProblem(`${of} contains a seed of another user; use the file as it was created`);
    if (exp !== undefined && exp * 1000 < Date.now()) throw new NatsProblem(`${of} expired on ${new Date(exp * 1000).toISOString()}; create a new one`);
    return bytes;
  } catch (error) {
    if (error instanceof NatsProblem) throw error;
    throw new NatsProblem(`${of} contains no JWT and seed of a user; use a .creds file as created by nsc or nats auth`);
  }
}

function isTlsAsked({ servers, tlsCa, tlsCert }: NatsAccess): boolean {
  return servers.some((server) => server.startsWith("tls://")) || tlsCa !== "" || tlsCert !== "";
}

function tlsFor(access: NatsAccess): TlsOptions | null {
  const { tlsCa, tlsCert, tlsKey } = access;
  if (!isTlsAsked(access)) return null;
  if (tlsCa !== "") readCertificate("--nats-tls-ca", tlsCa);
  const known = tlsCa === "" ? {} : { caFile: tlsCa };
  if (tlsCert === "") return known;
  const own = readCertificate("--nats-tls-cert", tlsCert);
  const key = readFile("--nats-tls-key", tlsKey);
  const secret = attempt(`the file of --nats-tls-key, ${tlsKey}, contains no private key (PEM, without a passphrase)`, () => createPrivateKey(key));
  if (!own.checkPrivateKey(secret)) {
    throw new NatsProblem(`the file of --nats-tls-key, ${tlsKey}, does not belong to the certificate in ${tlsCert}; use the key that was created with it`);
  }
  return { ...known, certFile: tlsCert, keyFile: tlsKey };
}

function readCertificate(flag: string, path: string): X509Certificate {
  const pem = readFile(flag, path);
  return attempt(`the file of ${flag}, ${path}, contains no certificate (PEM)`, () => new X509Certificate(pem));
}

function readFile(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new NatsProblem(`the file of ${flag} cannot be read: ${(error as Error).message}`);
  }
}

function attempt<T>(problem: string, work: () => T): T {
  try {
    return work();
  } catch {
    throw new NatsProblem(problem); // OpenSSL's own message does not help
  }
}

// ------------------------------------------------------------------------------------- refusals

export function explain(error: unknown, access: NatsAccess): string {
  const { code = "", message } = error as Error & { code?: string };
  switch (code) {
    case "CONNECTION_REFUSED":
    case "ECONNREFUSED":
      return "nothing listens there; start nats-server, or correct the address";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the host name is unknown (${message}); correct the address`;
    case "AUTHORIZATION_VIOLATION":
    case "BAD_AUTHENTICATION":
      return notLetIn(access);
    case "AUTHENTICATION_EXPIRED":
    case "ACCOUNT_EXPIRED":
      return `${notLetIn(access)} (${message})`;
    case refusedCode:
      return refusedWith(message);
    case "TIMEOUT":
    case "CONNECTION_TIMEOUT":
      return `the server does not answer in time; check that it is a NATS server and that this machine can reach it${ownCertificate(access)}`;
    case "SERVER_OPT_NA":
      return "the server has no TLS, but tls:// in an address, --nats-tls-ca or --nats-tls-cert require it; remove them, or configure TLS on the server";
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the server's certificate is for another name (${message}); connect by a name in the certificate`;
    case "CERT_HAS_EXPIRED":
      return "the server's certificate has expired; renew it";
    default:
      if (untrusted.has(code)) return notTrusted(access, message);
      return message === "unexpected response from server" ? "another kind of server listens there; correct the address" : `cannot connect: ${message}`;
  }
}

/** @param words of the server, in quotes as it sends them. */
function refusedWith(words: string): string {
  const said = `the server refuses the connection: ${words}`;
  if (/maximum account/i.test(words)) return `${said}; raise the connection limit of the account: every node has one connection`;
  if (/maximum connections/i.test(words)) return `${said}; raise max_connections of the server: every node has one`;
  if (/TLS required/i.test(words)) return `${said}; use tls:// in the address`;
  return `${said}; read the log of the server`;
}

const untrusted = new Set(["DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"]);

function notTrusted({ tlsCa }: NatsAccess, message: string): string {
  const what = `the server's certificate is not trusted (${message})`;
  return tlsCa === ""
    ? `${what}; set --nats-tls-ca to the certificate of its issuer`
    : `${what}; --nats-tls-ca (${tlsCa}) must contain the certificate of its issuer`;
}

function notLetIn({ servers, user, token, creds }: NatsAccess): string {
  const given = [
    ...(creds !== "" ? ["--nats-creds"] : []), ...(token !== "" ? ["--nats-token"] : []), ...(user !== "" ? ["--nats-user and --nats-password"] : []),
    ...(servers.some((server) => server.includes("@")) ? ["the credentials in the address"] : []),
  ];
  const ways = "--nats-creds, --nats-user and --nats-password, or --nats-token";
  return given.length === 0
    ? `the server requires credentials; set ${ways}`
    : `the server rejects ${given.join(" and ")}; correct them, or use another of ${ways}`;
}

/** A server that requires a client certificate closes the connection without an error that reaches the client. */
function ownCertificate(access: NatsAccess): string {
  if (!isTlsAsked(access)) return "";
  return access.tlsCert === ""
    ? "; if it requires client certificates, set --nats-tls-cert and --nats-tls-key"
    : `; it may reject the certificate of --nats-tls-cert (${access.tlsCert}): the server must trust its issuer`;
}
