/** Tokens of the load: every socket is a user of its own, so no token has been verified before it is used. */
import { createHmac } from "node:crypto";

/** What the node under test is started with. It guards nothing but a bench on loopback. */
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
