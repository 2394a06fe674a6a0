/** TLS to Redis, and the CA certificates for its servers. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { RedisOptions } from "ioredis";

/** The file is unusable; the message names the option. */
export class TlsFileProblem extends Error {
  override readonly name = "TlsFileProblem";
}

/**
 * @param ca a file of certificates; "" for those Node trusts.
 * @throws TlsFileProblem
 */
export function tlsOptions(ca: string): Pick<RedisOptions, "tls" | "sentinelTLS" | "enableTLSForSentinelMode"> {
  const tls = ca === "" ? {} : trusting(ca);
  // Without the flag the client uses TLS neither for Sentinels nor for the server they name, whatever `tls` contains.
  return { tls, sentinelTLS: tls, enableTLSForSentinelMode: true };
}

/** The client reads this for every new connection, so the file may be replaced before its certificates expire. */
function trusting(path: string): { readonly ca: Buffer } {
  let good = readCertificates(path);
  return {
    get ca() {
      try {
        good = readCertificates(path);
      } catch {
        // The file is being replaced, or the new one is unusable: the last good one may still work.
      }
      return good;
    },
  };
}

function readCertificates(path: string): Buffer {
  let pem: Buffer;
  try {
    pem = readFileSync(path);
  } catch (error) {
    throw new TlsFileProblem(`the file of --redis-tls-ca cannot be read: ${(error as Error).message}`);
  }
  try {
    new X509Certificate(pem);
  } catch {
    throw new TlsFileProblem(`the file of --redis-tls-ca, ${path}, holds no certificate (PEM)`); // OpenSSL's own text does not help
  }
  return pem;
}
