/**
 * The application's backend decides whether a session begins, and for whom. It is asked when the token is verified, and
 * before the look at where the user belongs: the verdict may name another user.
 *
 * A session that resumes keeps the verdict of its resume token until that ages. So neither a drain nor a crowd of clients
 * that come back depends on a backend.
 */
import { hash } from "node:crypto";
import { asTokenGave, type Grant } from "../../auth/grants.ts";
import { tokenBytesMax } from "../../auth/claims.ts";
import type { ResumeClaims } from "../../auth/resume.ts";
import { nothingAsked, type HookVerdict } from "../../link/hooks.ts";
import { closeSession } from "../outgoing.ts";
import { anonymousPrefix } from "../session/place.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "../session/session.ts";

const clientCharsMax = 64;

export interface Asking {
  /** As the token gave it, or the resume token. */
  readonly grant: Grant;
  readonly claims: ResumeClaims | null;
  /** A token that the node cannot read, since it has no keys. */
  readonly token: string;
  readonly device: string;
}

/** The grant that the session has by an earlier verdict. Null: the backend has to be asked. */
export function decidedBefore({ grant, claims, token }: Pick<Asking, "grant" | "claims" | "token">, now = Date.now()): Grant | null {
  const kept = claims?.grant.hook ?? null;
  if (claims === null || kept === null || claims.grant.tenant !== grant.tenant) return null;
  if (asTokenGave(grant).user !== kept.from || (kept.until !== 0 && kept.until <= now)) return null;
  // The node cannot read whose token it is.
  if (token !== "" && hashOf(token) !== claims.grant.tokenHash) return null;
  return { ...grant, user: claims.grant.user, hook: kept };
}

function hashOf(token: string): string {
  return hash("sha256", token, "base64url");
}

/** Calls `go` with the grant that the session gets, unless the backend denies it: then the socket is closed. */
export function askConnect(reactor: Reactor, session: Session, { grant: given, token, device }: Asking, go: (grant: Grant) => void): void {
  const grant = asTokenGave(given);
  const { tenant, user } = grant;
  // It has to fit into a record of the ring.
  const tokenMax = Math.min(tokenBytesMax, reactor.config.ringBytes / 16);
  if (token.length > tokenMax) return closeSession(reactor, session, "invalid_token", `token: at most ${tokenMax} bytes`);
  const tokenHash = token === "" ? grant.tokenHash : hashOf(token);
  const isAnonymous = user.startsWith(anonymousPrefix) && (reactor.verifier === null || tokenHash === "");
  const client = session.waiting?.client.slice(0, clientCharsMax) ?? "";
  const question = { ...nothingAsked, hook: "connect", tenant, user, tokenHash, isAnonymous, client, device, token } as const;
  const isAsked = reactor.hooks!.ask(session, question, (verdict) => onVerdict(reactor, session, { ...grant, tokenHash }, verdict, go));
  if (!isAsked) closeSession(reactor, session, "overloaded");
}

function onVerdict(reactor: Reactor, session: Session, grant: Grant, verdict: HookVerdict, go: (grant: Grant) => void): void {
  switch (verdict.kind) {
    case "allowed": {
      const { user, until, rooms } = verdict;
      return go({ ...grant, user: user || grant.user, hook: { from: grant.user, until, rooms } });
    }
    case "denied":
      return closeSession(reactor, session, "denied", verdict.reason, verdict.reason === "" ? "denied" : `denied: ${verdict.reason}`, verdict.close);
    case "unanswered":
      if (verdict.isAllowed) return go(grant);
      return closeSession(reactor, session, "overloaded", verdict.text);
  }
}
