/**
 * Signatures of what the node sends to the application's backend, by the specification Standard Webhooks 1.0: HMAC with
 * SHA-256 over `id.timestamp.body`, in base64 behind `v1,`. With two keys there are two signatures, so that a key can be
 * replaced while backends know only one of them.
 */
import { Mac } from "../auth/mac.ts";

export interface SignedHeaders {
  /** The same for each attempt to send the message: receivers know a repetition by it. */
  readonly "webhook-id": string;
  /** Seconds since 1970. Receivers refuse messages that are old: one that was overheard cannot be sent again later. */
  readonly "webhook-timestamp": string;
  readonly "webhook-signature": string;
}

export class Signer {
  readonly #macs: readonly Mac[];

  /** @param secrets `whsec_` and base64; empty ones are skipped */
  constructor(secrets: readonly string[]) {
    this.#macs = secrets.filter((secret) => secret !== "").map((secret) => new Mac(Buffer.from(secret.slice("whsec_".length), "base64")));
  }

  /** @param now milliseconds since 1970 */
  sign(id: string, now: number, body: string): SignedHeaders {
    const timestamp = String(Math.floor(now / 1000));
    const signed = `${id}.${timestamp}.${body}`;
    const signatures = this.#macs.map((mac) => `v1,${mac.sign(signed).toString("base64")}`);
    return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.join(" ") };
  }
}
