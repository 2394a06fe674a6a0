/** TLS to Redis, and who is trusted to have signed the certificates of its servers. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { RedisOptions } from "ioredis";

/** The file is no good, in a sentence that names the option. */
export class TlsFileProblem extends Error {
  override readonly name = "TlsFileProblem";
}

/**
 * @param ca a file of certificates; "" for those Node trusts.
 * @throws TlsFileProblem
 */
export function tlsOptions(ca: string): Pick<RedisOptions, "tls" | "sentinelTLS" | "enableTLSForSentinelMode"> {
  const tls = ca === "" ? {} : trusting(ca);
  // Without the flag the client speaks TLS to neither Sentinels nor the server that they name, whatever stands in `tls`.
  return { tls, sentinelTLS: tls, enableTLSForSentinelMode: true };
}

/** What the client asks for with every connection it makes: the file may be replaced before what is in it expires. */
function trusting(path: string): { readonly ca: Buffer } {
  let good = readCertificates(path);
  return {
    get ca() {
      try {
        good = readCertificates(path);
      } catch {
        // It is being replaced, or by what is no good: what there was may do still.
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
    throw new TlsFileProblem(`the file of --redis-tls-ca, ${path}, holds no certificate (PEM)`); // OpenSSL's own words are no help
  }
  return pem;
}
