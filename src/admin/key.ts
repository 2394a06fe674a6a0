/** The key of the admin port. It allows everything that the port offers. */
import { bearerIn, digest, isSame } from "../auth/bearer.ts";

/** A short id that names a key in the log without revealing it. */
export function keyId(key: string): string {
  return digest(`flux-gateway admin key\0${key}`).toString("hex").slice(0, 8);
}

/** Whether an Authorization header carries the key. */
export function keyCheck(key: string): (authorization: string | undefined) => boolean {
  const wanted = digest(key);
  return (authorization = "") => isSame(bearerIn(authorization), wanted);
}
