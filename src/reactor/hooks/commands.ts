/** Commands that the application's backend decides on. The reactor has checked them before, and checks them again after. */
import { nothingAsked, type Allowed, type HookVerdict, type Question } from "../../link/hooks.ts";
import { Format } from "../../protocol/messages.ts";
import { refuse } from "../outgoing.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "../session/session.ts";

/** The backend's answer to a failure that the client cannot mend. */
export const noVerdict = "the application's backend, which decides on this, does not answer";

/** Joins once the backend allows it. */
export function askJoin(reactor: Reactor, session: Session, id: number, room: string, join: () => void): void {
  const isAsked = reactor.hooks!.askForCommand(session, id, { ...about(session), hook: "join", room }, (verdict) => {
    if (mayGoOn(reactor, session, id, verdict)) join();
  });
  if (!isAsked) refuse(reactor, session, id, "overloaded");
}

interface Draft {
  readonly room: string;
  readonly key: string;
  readonly payload: Uint8Array;
  readonly format: number;
}

/** Publishes once the backend allows it, what it says or what the client wanted. */
export function askPublish(reactor: Reactor, session: Session, id: number, { payload: view, ...draft }: Draft, publish: (payload: Uint8Array, format: number) => void): void {
  // The bytes of a command are gone when this returns.
  const payload = view.slice();
  const isAsked = reactor.hooks!.askForCommand(session, id, { ...about(session), ...draft, hook: "publish", payload }, (verdict) => {
    if (!mayGoOn(reactor, session, id, verdict)) return;
    const { payload: changed, format } = verdict.kind === "allowed" ? verdict : unchanged;
    publish(changed ?? payload, changed === null ? draft.format : format);
  });
  if (!isAsked) refuse(reactor, session, id, "overloaded");
}

const unchanged: Pick<Allowed, "payload" | "format"> = { payload: null, format: Format.BINARY };

/** Takes the new token once the backend allows it. */
export function askRefresh(reactor: Reactor, session: Session, id: number, tokenHash: string, refresh: (rooms: readonly string[]) => void): void {
  const isAsked = reactor.hooks!.askForCommand(session, id, { ...about(session), hook: "refresh", tokenHash }, (verdict) => {
    if (mayGoOn(reactor, session, id, verdict)) refresh(verdict.kind === "allowed" ? verdict.rooms : []);
  });
  if (!isAsked) refuse(reactor, session, id, "overloaded");
}

/** What every question of a ready session says. */
export function about({ id, grant }: Session): Omit<Question, "hook"> {
  const { tenant, user, tokenHash } = grant!;
  return { ...nothingAsked, tenant, user, tokenHash, isAnonymous: false, session: id };
}

/** False: refused, and answered. */
function mayGoOn(reactor: Reactor, session: Session, id: number, verdict: HookVerdict): boolean {
  switch (verdict.kind) {
    case "allowed": return true;
    case "denied":
      refuse(reactor, session, id, verdict.error, verdict.reason || undefined);
      return false;
    case "unanswered":
      if (!verdict.isAllowed) refuse(reactor, session, id, verdict.isFull ? "overloaded" : "unavailable", noVerdict);
      return verdict.isAllowed;
  }
}
