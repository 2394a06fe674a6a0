/** Signatures beside those of node:crypto. */
import { createHmac } from "node:crypto";
import t from "tap";
import { Mac } from "../src/auth/mac.ts";

const bytes = (length: number) => Buffer.from(Array.from({ length }, (_, i) => (i * 31 + length) % 256));
const lengths = [0, 1, 31, 32, 63, 64, 65, 128, 5_000];

t.test("it is that of node:crypto, whatever the lengths of secret and data", async (t) => {
  for (const secret of lengths.map(bytes)) {
    const mac = new Mac(secret);
    for (const data of lengths.map(bytes)) {
      t.strictSame(mac.sign(data), createHmac("sha256", secret).update(data).digest(), `${secret.length} ${data.length}`);
    }
    t.strictSame(mac.sign("grüße 👋"), createHmac("sha256", secret).update("grüße 👋").digest(), "text is UTF-8");
  }
});

t.test("only the signature of this data with this secret is one, spelled as it is written here", async (t) => {
  const mac = new Mac(bytes(32));
  const signature = mac.sign("data").toString("base64url");
  t.ok(mac.isSignature("data", signature));
  t.notOk(mac.isSignature("date", signature));
  t.notOk(new Mac(bytes(33)).isSignature("data", signature));
  // Two bits of the last character belong to no byte: a decoder would not see them.
  const last = signature.at(-1)!;
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const spelled = signature.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ 1];
  t.ok(Buffer.from(spelled, "base64url").equals(Buffer.from(signature, "base64url")));
  for (const other of [spelled, `${signature}=`, `${signature} `, signature.slice(1), ""]) t.notOk(mac.isSignature("data", other), other);
});
