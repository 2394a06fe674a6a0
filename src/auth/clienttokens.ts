/** Tokens of clients as credentials for the calls that take them: `?token=` of a stream, since an EventSource sends no headers. */
import type { ApiCaller, ApiRefusal } from "./apikeys.ts";
import type { Grant } from "./grants.ts";
import type { Verdict, Verifier } from "./verifier.ts";

export interface ClientTokens {
  /** Never throws, never rejects. */
  authenticate(token: string): ApiCaller | ApiRefusal | Promise<ApiCaller | ApiRefusal>;
}

/** Of one user and node: an EventSource that is refused or disconnected comes again at once. */
const limits = { requestsPerSecond: 5, publicationsPerSecond: null };
const unavailableMs = 5_000;

/** @param makeVerifier called when the first token comes. Null: the node has no key that signs tokens. */
export function createClientTokens(makeVerifier: (() => Verifier) | null): ClientTokens {
  const callers = new WeakMap<Grant, ApiCaller>();
  let verifier: Verifier | null = null;
  const refuse = (text: string): ApiRefusal => ({ refused: "unauthorized", text, retryAfterMs: 0 });
  const callerOf = (verdict: Verdict): ApiCaller | ApiRefusal => {
    if (!("grant" in verdict)) return verdict.refused === "unavailable" ? { refused: "unavailable", text: verdict.text, retryAfterMs: unavailableMs } : refuse(verdict.text);
    const { grant } = verdict;
    const before = callers.get(grant);
    if (before !== undefined) return before;
    const caller: ApiCaller = { kind: "token", name: `token:${grant.user}`, tenant: grant.tenant, scopes: ["read"], rooms: grant.rooms, limits, grant };
    callers.set(grant, caller);
    return caller;
  };
  return {
    authenticate(token) {
      if (token.startsWith("flux_")) return refuse("token: takes the token of a client; an API key belongs into the header Authorization, since logs keep URLs");
      if (makeVerifier === null) return refuse("token: the node has no key that signs the tokens of clients");
      const verdict = (verifier ??= makeVerifier()).verify(token);
      return verdict instanceof Promise ? verdict.then(callerOf) : callerOf(verdict);
    },
  };
}
