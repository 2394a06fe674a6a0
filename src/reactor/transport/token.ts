/** The token that comes with a request. */
import type { HttpRequest } from "uWebSockets.js";

/** Accepts any case and any spacing, as client libraries differ. uWS has trimmed the value. */
const bearer = /^bearer[ \t]+(.+)$/i;

/** "" without one. */
export function tokenInHeader(req: HttpRequest): string {
  return bearer.exec(req.getHeader("authorization"))?.[1] ?? "";
}
