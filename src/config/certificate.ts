/** The node's certificate: reads it, checks it before use, and watches its files for a new one. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { createSecureContext } from "node:tls";
import { ConfigError, type Config } from "./config.ts";
import type { Logger } from "../platform/log/log.ts";

/** Files and content of the certificate. uWS reads the files itself, Node gets the content. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly passphrase: string;
  readonly cert: string;
  readonly key: string;
  readonly expiresAt: number;
}

const dayMs = 86_400_000;
/** Days before expiry from which the log warns. */
const warnDays = 14;
const lookMs = 2000;

/**
 * Null where TLS is off.
 * @throws ConfigError that names the option, where certificate and key do not fit together.
 */
export function readCertificate({ tlsCert, tlsKey, tlsPassphrase: passphrase }: Config): Certificate | null {
  if (tlsCert === "") return null;
  const cert = read("--tls-cert", tlsCert);
  const key = read("--tls-key", tlsKey);
  const parsed = attempt(`--tls-cert: ${tlsCert} contains no PEM certificate`, () => new X509Certificate(cert));
  const secret = attempt(keyProblem(tlsKey, key, passphrase), () => createPrivateKey({ key, passphrase }));
  if (!parsed.checkPrivateKey(secret)) {
    throw new ConfigError([`--tls-key: ${tlsKey} does not belong to the certificate in ${tlsCert}; give the key that was created with it`]);
  }
  attempt(`--tls-cert: ${tlsCert} cannot be used for TLS`, () => createSecureContext({ cert, key, passphrase }));
  return { certFile: tlsCert, keyFile: tlsKey, passphrase, cert, key, expiresAt: Date.parse(parsed.validTo) };
}

/** A warning about the certificate's expiry, or null. */
export function expiryWarning({ certFile, expiresAt }: Certificate, time = Date.now()): string | null {
  const days = Math.floor((expiresAt - time) / dayMs);
  if (days < 0) return `--tls-cert: ${certFile} expired on ${new Date(expiresAt).toISOString()}; clients reject it; renew it`;
  return days < warnDays ? `--tls-cert: ${certFile} expires in ${days} days; renew it` : null;
}

/** Calls back when one of the files has changed. It polls, since certificates are often replaced by changing a link. */
export function watchCertificate({ certFile, keyFile }: Certificate, onChange: () => void): () => void {
  const files = [certFile, keyFile];
  for (const file of files) watchFile(file, { interval: lookMs, persistent: false }, onChange);
  return () => files.forEach((file) => unwatchFile(file, onChange));
}

/** Reads the files again and uses them. False: they are invalid, and the node keeps the old certificate. */
export function renewCertificate(config: Config, log: Logger, use: (certificate: Certificate) => void): boolean {
  try {
    const renewed = readCertificate(config);
    if (renewed === null) return false;
    const warning = expiryWarning(renewed);
    if (warning !== null) log.warn(warning);
    use(renewed);
    log.info({ certificate: renewed.certFile, expires: new Date(renewed.expiresAt).toISOString() }, "certificate reloaded; new connections use it");
    return true;
  } catch (error) {
    if (error instanceof ConfigError) log.error(`${error.message}; the node keeps the old certificate`);
    else log.error({ err: error }, "certificate: reload failed; the node keeps the old certificate");
    return false;
  }
}

function read(flag: string, path: string): string {
  return attempt(`${flag}: ${path} cannot be read; check the path and the file's permissions`, () => readFileSync(path, "utf8"));
}

function keyProblem(path: string, key: string, passphrase: string): string {
  if (!key.includes("ENCRYPTED")) return `--tls-key: ${path} contains no PEM private key`;
  return passphrase === ""
    ? `--tls-key: ${path} is encrypted; give its passphrase with --tls-passphrase`
    : `--tls-passphrase: does not open ${path}`;
}

function attempt<T>(problem: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError([code === undefined ? problem : `${problem} (${code})`]);
  }
}
