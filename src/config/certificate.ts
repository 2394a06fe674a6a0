/** The node's certificate: read, checked before anything uses it, and watched for a new one. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { createSecureContext } from "node:tls";
import { ConfigError, type Config } from "./config.ts";
import type { Logger } from "../platform/log/log.ts";

/** What TLS is served with. uWS reads the files itself; Node is given what was read. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly passphrase: string;
  readonly cert: string;
  readonly key: string;
  readonly expiresAt: number;
}

const dayMs = 86_400_000;
/** How long before its end a certificate is warned of. */
const warnDays = 14;
const lookMs = 2000;

/**
 * Null where TLS is off.
 * @throws ConfigError that names the option, where the files do not make a certificate with its key.
 */
export function readCertificate({ tlsCert, tlsKey, tlsPassphrase: passphrase }: Config): Certificate | null {
  if (tlsCert === "") return null;
  const cert = read("--tls-cert", tlsCert);
  const key = read("--tls-key", tlsKey);
  const parsed = attempt(`--tls-cert: ${tlsCert} holds no certificate in PEM`, () => new X509Certificate(cert));
  const secret = attempt(keyProblem(tlsKey, key, passphrase), () => createPrivateKey({ key, passphrase }));
  if (!parsed.checkPrivateKey(secret)) {
    throw new ConfigError([`--tls-key: ${tlsKey} is not the key of the certificate in ${tlsCert}; give the pair that was made together`]);
  }
  attempt(`--tls-cert: ${tlsCert} cannot be used for TLS`, () => createSecureContext({ cert, key, passphrase }));
  return { certFile: tlsCert, keyFile: tlsKey, passphrase, cert, key, expiresAt: Date.parse(parsed.validTo) };
}

/** What to warn of, or null. */
export function expiryWarning({ certFile, expiresAt }: Certificate, time = Date.now()): string | null {
  const days = Math.floor((expiresAt - time) / dayMs);
  if (days < 0) return `--tls-cert: ${certFile} has expired on ${new Date(expiresAt).toISOString()}: clients will refuse it`;
  return days < warnDays ? `--tls-cert: ${certFile} expires in ${days} days` : null;
}

/** Calls back when one of the files has changed. By looking: certificates are often links that are put elsewhere. */
export function watchCertificate({ certFile, keyFile }: Certificate, onChange: () => void): () => void {
  const files = [certFile, keyFile];
  for (const file of files) watchFile(file, { interval: lookMs, persistent: false }, onChange);
  return () => files.forEach((file) => unwatchFile(file, onChange));
}

/** Reads the files again and uses what they hold. False: they are no good, and the certificate there was goes on. */
export function renewCertificate(config: Config, log: Logger, use: (certificate: Certificate) => void): boolean {
  try {
    const renewed = readCertificate(config);
    if (renewed === null) return false;
    const warning = expiryWarning(renewed);
    if (warning !== null) log.warn(warning);
    use(renewed);
    log.info({ certificate: renewed.certFile, expires: new Date(renewed.expiresAt).toISOString() }, "the certificate was read again");
    return true;
  } catch (error) {
    if (error instanceof ConfigError) log.error(`${error.message}; the certificate there was goes on`);
    else log.error({ err: error }, "the certificate could not be read again; the one there was goes on");
    return false;
  }
}

function read(flag: string, path: string): string {
  return attempt(`${flag}: ${path} cannot be read; check the path and who may read it`, () => readFileSync(path, "utf8"));
}

function keyProblem(path: string, key: string, passphrase: string): string {
  if (!key.includes("ENCRYPTED")) return `--tls-key: ${path} holds no private key in PEM`;
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
