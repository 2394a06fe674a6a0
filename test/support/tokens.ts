/** Tokens for tests, signed with a secret. */
import { SignJWT } from "jose";

export function token(claims: Record<string, unknown>, secret: string): Promise<string> {
  const jwt = new SignJWT(claims).setProtectedHeader({ alg: "HS256" });
  if (claims.iat === undefined) jwt.setIssuedAt();
  return jwt.sign(new TextEncoder().encode(secret));
}
