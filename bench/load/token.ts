/** Tokens of the load: every socket is a different user, so each token is verified for the first time. */
import { createHmac } from "node:crypto";

/** Secret of the node under test. It protects only a bench on loopback. */
export const benchSecret = "flux-bench-secret-flux-bench-secret";

const header = encoded({ alg: "HS256", typ: "JWT" });

export function tokenFor(user: string): string {
  const now = Math.floor(Date.now() / 1000);
  const body = `${header}.${encoded({ sub: user, iat: now, exp: now + 3600 })}`;
  return `${body}.${createHmac("sha256", benchSecret).update(body).digest("base64url")}`;
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
