/**
 * What lets a node in at NATS: read and checked before it is used, and where the servers refuse it, told in words that
 * name the option. The client library says "TLS" or "BAD_CREDS" of most of it. Files are read anew for every connection:
 * they may be replaced before what is in them expires.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { refusedCode } from "./handshake.ts";
import { credsAuthenticator, type Authenticator, type ConnectionOptions, type TlsOptions } from "nats";

export interface NatsAccess {
  /** `nats://host:4222`, `tls://…`; a user and password, or a token, may stand in one of them. */
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

/** What is wrong with NATS as it was found at the start: whoever starts the node can do something about it. */
export class NatsProblem extends Error {
  override readonly name = "NatsProblem";
}

/** @throws NatsProblem where a file is no good. */
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

/** `nats://token@host` is how NATS writes a token. */
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
      // It is being replaced, or by what is no good: what there was may do still.
    }
    return credsAuthenticator(good)(nonce);
  };
}

function readCreds(path: string): Buffer {
  const bytes = readFile("--nats-creds", path);
  const of = `the file of --nats-creds, ${path},`;
  try {
    // What it would answer to a server.
    const { jwt, nkey } = credsAuthenticator(bytes)("nonce") as { readonly jwt: string; readonly nkey: string };
    const { sub, exp } = JSON.parse(Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString()) as { sub?: string; exp?: number };
    if (sub !== nkey) throw new NatsProblem(`${of} holds a seed that is not its user's; give the file as it was made`);
    if (exp !== undefined && exp * 1000 < Date.now()) throw new NatsProblem(`${of} has expired on ${new Date(exp * 1000).toISOString()}; have a new one made`);
    return bytes;
  } catch (error) {
    if (error instanceof NatsProblem) throw error;
    throw new NatsProblem(`${of} holds no user's JWT and seed; give a .creds file, as nsc and nats auth make it`);
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
  const secret = attempt(`the file of --nats-tls-key, ${tlsKey}, holds no private key (PEM, without a passphrase)`, () => createPrivateKey(key));
  if (!own.checkPrivateKey(secret)) {
    throw new NatsProblem(`the file of --nats-tls-key, ${tlsKey}, is not the key of the certificate in ${tlsCert}; give the pair that was made together`);
  }
  return { ...known, certFile: tlsCert, keyFile: tlsKey };
}

function readCertificate(flag: string, path: string): X509Certificate {
  const pem = readFile(flag, path);
  return attempt(`the file of ${flag}, ${path}, holds no certificate (PEM)`, () => new X509Certificate(pem));
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
    throw new NatsProblem(problem); // OpenSSL's own words are no help
  }
}

// ------------------------------------------------------------------------------------- refusals

export function explain(error: unknown, access: NatsAccess): string {
  const { code = "", message } = error as Error & { code?: string };
  switch (code) {
    case "CONNECTION_REFUSED":
    case "ECONNREFUSED":
      return "nothing answers there; start nats-server, or correct the address";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `no host is known by that name (${message}); correct the address`;
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
      return `the server does not answer in time; look whether it is a NATS server, and reachable from here${ownCertificate(access)}`;
    case "SERVER_OPT_NA":
      return "the server has no TLS, which tls:// in an address, --nats-tls-ca or --nats-tls-cert ask for; leave them out, or give the server a certificate";
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the server's certificate is for another name (${message}); connect by a name that it has`;
    case "CERT_HAS_EXPIRED":
      return "the server's certificate has expired; it needs a new one";
    default:
      if (untrusted.has(code)) return notTrusted(access, message);
      return message === "unexpected response from server" ? "what answers there is no NATS server; correct the address" : `cannot connect: ${message}`;
  }
}

/** @param words of the server, in quotes as it sends them. */
function refusedWith(words: string): string {
  const said = `the server refuses the connection: ${words}`;
  if (/maximum account/i.test(words)) return `${said}; raise the limit of the account: every node has one connection`;
  if (/maximum connections/i.test(words)) return `${said}; raise max_connections of the server: every node has one`;
  if (/TLS required/i.test(words)) return `${said}; put tls:// into the address`;
  return `${said}; look at the log of the server`;
}

const untrusted = new Set(["DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"]);

function notTrusted({ tlsCa }: NatsAccess, message: string): string {
  const what = `the server's certificate is not trusted (${message})`;
  return tlsCa === ""
    ? `${what}; give the certificate of whoever signed it with --nats-tls-ca`
    : `${what}; --nats-tls-ca, ${tlsCa}, has to hold the certificate of whoever signed it`;
}

function notLetIn({ servers, user, token, creds }: NatsAccess): string {
  const given = [
    ...(creds !== "" ? ["--nats-creds"] : []), ...(token !== "" ? ["--nats-token"] : []), ...(user !== "" ? ["--nats-user and --nats-password"] : []),
    ...(servers.some((server) => server.includes("@")) ? ["what stands in the address"] : []),
  ];
  const ways = "--nats-creds, --nats-user and --nats-password, or --nats-token";
  return given.length === 0
    ? `the server does not let this node in without credentials; give those it asks for with ${ways}`
    : `the server does not let this node in with ${given.join(" and ")}; correct that, or give what it asks for of ${ways}`;
}

/** A server that wants another certificate ends the connection without a word that reaches us. */
function ownCertificate(access: NatsAccess): string {
  if (!isTlsAsked(access)) return "";
  return access.tlsCert === ""
    ? "; one that wants certificates of its clients needs --nats-tls-cert and --nats-tls-key"
    : `; it may not accept the certificate of --nats-tls-cert, ${access.tlsCert}: whoever signed that has to be known to the server`;
}
