/** Certificates for tests, made by openssl: their own authority, good for this machine's loopback names. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";

export interface Pair {
  readonly cert: string;
  readonly key: string;
  /** The certificate itself: what a client has to trust. */
  readonly ca: string;
}

/** A folder for the test's files, gone with it. */
export function folder(t: Pick<Test, "teardown">): string {
  const path = mkdtempSync(join(tmpdir(), "flux-tls-"));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

/** Makes `NAME.crt` and `NAME.key` in the folder; `name` is the certificate's common name too. */
export function makePair(inFolder: string, name: string, { days = 3650, passphrase = "", names = "DNS:localhost,IP:127.0.0.1" } = {}): Pair {
  const cert = join(inFolder, `${name}.crt`);
  const key = join(inFolder, `${name}.key`);
  const protection = passphrase === "" ? ["-nodes"] : ["-passout", `pass:${passphrase}`];
  execFileSync("openssl", [
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", ...protection, "-keyout", key, "-out", cert,
    "-days", String(days), "-subj", `/CN=${name}`, "-addext", `subjectAltName=${names}`,
  ], { stdio: "ignore" });
  return { cert, key, ca: readFileSync(cert, "utf8") };
}

/** Puts one pair's files in place of another's. */
export function replace(old: Pair, by: Pair): void {
  copyFileSync(by.key, old.key);
  copyFileSync(by.cert, old.cert);
}
