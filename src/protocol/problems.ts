/** Errors of the HTTP API: `application/problem+json` (RFC 9457) with a code of errors.ts. */
import { errors, requestErrors, type RequestErrorCode } from "../errors.ts";

export const problemType = "application/problem+json";

/** Every error of the HTTP API, with its HTTP status. */
export const problems: Readonly<Record<RequestErrorCode, { readonly status: number; readonly retryable: boolean; readonly text: string }>> = {
  bad_request: { status: 400, ...errors.bad_request },
  unauthorized: { status: 401, ...errors.unauthorized, text: "the request shows no valid key" },
  forbidden: { status: 403, ...errors.forbidden, text: "the key or the namespace does not allow this, or a web page sent the request" },
  not_found: { status: 404, ...requestErrors.not_found },
  unknown_namespace: { status: 404, ...errors.unknown_namespace },
  method_not_allowed: { status: 405, ...requestErrors.method_not_allowed },
  not_joined: { status: 409, ...errors.not_joined },
  already_joined: { status: 409, ...errors.already_joined },
  conflict: { status: 409, ...requestErrors.conflict },
  too_many_rooms: { status: 409, ...errors.too_many_rooms, text: "the user is in roomsPerSessionMax rooms" },
  too_many_watched: { status: 409, ...errors.too_many_watched },
  unrecoverable_position: { status: 410, ...errors.unrecoverable_position },
  too_large: { status: 413, ...errors.too_large, text: "the body, the publication or the answer is too large" },
  unsupported_media_type: { status: 415, ...requestErrors.unsupported_media_type },
  rate_limited: { status: 429, ...errors.rate_limited, text: "the key has used up its requests or publications per second" },
  internal: { status: 500, ...errors.internal },
  overloaded: { status: 503, ...errors.overloaded },
  unavailable: { status: 503, ...errors.unavailable, text: "NATS, Redis or the disk does not answer, or the node drains; repeat a publish with the same key" },
};

/** A refused request. */
export interface Refusal {
  readonly code: RequestErrorCode;
  /** What happened, in a sentence. */
  readonly text: string;
  /** For the header Retry-After; 0: as the error says. */
  readonly retryAfterMs?: number;
  /** For the header Allow. */
  readonly allow?: string;
}

export function refusal(code: RequestErrorCode, text = problems[code].text): Refusal {
  return { code, text };
}

/** The body of the answer. `type` is relative to the URL of the request, and leads to the page of the calls. */
export function problemText({ code, text }: Refusal, requestId: string): string {
  const { status, retryable, text: title } = problems[code];
  return JSON.stringify({ type: `/api/v1/docs#${code}`, title, status, detail: text, code, retryable, requestId });
}

/** Seconds for Retry-After, or 0. */
export function retryAfterSeconds({ code, retryAfterMs = 0 }: Refusal): number {
  if (retryAfterMs > 0) return Math.ceil(retryAfterMs / 1_000);
  return code === "overloaded" || code === "unavailable" || code === "rate_limited" ? 1 : 0;
}
