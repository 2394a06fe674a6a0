/**
 * `GET /api/connection-url`: which node a client should connect to, and when. Answered from memory that the threads of
 * the node share: no request waits for the hub, Redis or NATS.
 *
 * A request costs little, and its bounds are those of handshakes: each target's rate of handshakes is handed out as
 * slots, and beyond half a minute of them, callers are refused. Tokens are checked at that rate, too.
 */
import type { HttpRequest, HttpResponse } from "uWebSockets.js";
import { placeTicketMs, userTag, type PlaceTickets } from "../../auth/placetickets.ts";
import type { Verdict } from "../../auth/verifier.ts";
import { isWelcome } from "../transport/origin.ts";
import { retryAfter, Shown } from "../transport/admission.ts";
import { jsonType } from "../transport/errorjson.ts";
import { respondError } from "../transport/http.ts";
import type { Routes } from "../transport/routes.ts";
import { tokenInHeader } from "../transport/token.ts";
import type { NodeState } from "../../link/threads.ts";
import type { Context } from "../context.ts";
import type { ReactorLooks } from "./looks.ts";
import { urlOfHost } from "./ownurl.ts";
import { readQuestion, type Question } from "./question.ts";
import { noSlot } from "./slots.ts";
import { answerText, type AnswerText, type Target, type Targets } from "./targets.ts";

type Parts = Pick<Context, "config" | "counters" | "placement" | "tickets" | "verifier">;

export interface ConnectionUrlOptions extends Parts {
  readonly state: NodeState;
  readonly targets: Targets;
  readonly looks: ReactorLooks;
  readonly placeTickets: PlaceTickets;
  /** Tokens that this reactor checks in a second; 0 for no limit. */
  readonly tokensPerSecond: number;
}

/** Requests whose token waits for a thread or for keys from a URL. */
const verifyingMax = 256;
/** How long browsers may keep the answer to a preflight. */
const preflightSeconds = "7200";
const path = "/api/connection-url";
const methods = "GET, HEAD, OPTIONS";

/** Who asks, and what the request said besides its query: the request is gone when a token has been checked. */
interface Caller {
  /** "" where the caller is no page. */
  readonly origin: string;
  readonly host: string;
  readonly forwardedProto: string;
  readonly isHead: boolean;
}

interface Refusal {
  readonly status: string;
  readonly code: "bad_request" | "unauthorized" | "forbidden" | "overloaded" | "unavailable";
  readonly text: string;
}

interface User {
  readonly tenant: string;
  /** Null: nobody in particular. */
  readonly user: string | null;
}

export class ConnectionUrl {
  readonly #options: ConnectionUrlOptions;
  readonly #isUnconfigured: boolean;
  readonly #shown = new Shown();
  #verifying = 0;
  #tokensLeft = 0;
  #tokensAt = -Infinity;
  /** For the last Host header: almost all callers use the same. */
  #own: { readonly host: string; readonly forwardedProto: string; readonly text: AnswerText | null } = { host: "", forwardedProto: "", text: null };

  constructor(options: ConnectionUrlOptions) {
    this.#options = options;
    this.#isUnconfigured = options.config.nodeUrl === "" && options.config.nodeHost === "";
  }

  serve(routes: Routes): void {
    routes.get(path, (res, req) => this.#asked(res, req, false)).head(path, (res, req) => this.#asked(res, req, true));
    routes.options(path, (res, req) => this.#preflight(res, req));
    routes.any(path, (res) => respondError(res, "405 Method Not Allowed", "bad_request", `only ${methods}`, { headers: { Allow: methods } }));
  }

  #preflight(res: HttpResponse, req: HttpRequest): void {
    const origin = req.getHeader("origin");
    if (origin === "" || !isWelcome(this.#options.config, origin, req.getHeader("host"))) return this.#refuse(res, { ...this.#caller(req, false), origin: "" }, forbiddenOrigin);
    res.writeStatus("204 No Content").writeHeader("Access-Control-Allow-Origin", origin).writeHeader("Vary", "Origin");
    res.writeHeader("Access-Control-Allow-Methods", "GET").writeHeader("Access-Control-Allow-Headers", "authorization");
    res.writeHeader("Access-Control-Max-Age", preflightSeconds).endWithoutBody();
  }

  #caller(req: HttpRequest, isHead: boolean): Caller {
    const origin = req.getHeader("origin");
    const host = this.#isUnconfigured || origin !== "" ? req.getHeader("host") : "";
    return { origin, host, forwardedProto: this.#isUnconfigured ? req.getHeader("x-forwarded-proto") : "", isHead };
  }

  /** Copies what it needs of the request first: after the callback it is gone. */
  #asked(res: HttpResponse, req: HttpRequest, isHead: boolean): void {
    const { config, state, verifier } = this.#options;
    const caller = this.#caller(req, isHead);
    if (caller.origin !== "" && !isWelcome(config, caller.origin, caller.host)) return this.#refuse(res, { ...caller, origin: "" }, forbiddenOrigin);
    if (state.secretDiffers) return this.#refuse(res, caller, otherSecret);
    const question = readQuestion(req.getQuery() ?? "");
    if (typeof question === "string") return this.#refuse(res, caller, badRequest(question));
    if (verifier === null) return this.#locate(res, caller, question, { tenant: "", user: question.user });
    const token = tokenInHeader(req);
    if (token === "") return this.#withoutToken(res, caller, question);
    if (!this.#mayVerify()) return this.#refuse(res, caller, busy);
    const verdict = verifier.verify(token);
    if (!(verdict instanceof Promise)) return this.#judged(res, caller, question, verdict);
    this.#wait(res, (answer) => {
      this.#verifying++;
      void verdict.then((late) => {
        this.#verifying--;
        answer(() => this.#judged(res, caller, question, late));
      });
    });
  }

  #withoutToken(res: HttpResponse, caller: Caller, question: Question): void {
    if (!this.#options.config.allowAnonymous) return this.#refuse(res, caller, unauthorized("token: missing: send it in the header Authorization: Bearer TOKEN"));
    if (question.user !== null) return this.#refuse(res, caller, unauthorized("user: needs this user's token in the header Authorization: Bearer TOKEN"));
    this.#locate(res, caller, question, { tenant: "", user: null });
  }

  #judged(res: HttpResponse, caller: Caller, question: Question, verdict: Verdict): void {
    if ("refused" in verdict) return this.#refuse(res, caller, verdict.refused === "unavailable" ? { ...busy, code: "unavailable", text: verdict.text } : unauthorized(verdict.text));
    const { tenant, user } = verdict.grant;
    if (question.user !== null && question.user !== user) return this.#refuse(res, caller, forbiddenUser);
    this.#locate(res, caller, question, { tenant, user });
  }

  /** Bounds the signatures that callers can make the node check. */
  #mayVerify(): boolean {
    const { tokensPerSecond } = this.#options;
    if (this.#verifying >= verifyingMax) return false;
    if (tokensPerSecond === 0) return true;
    const now = performance.now();
    if (now - this.#tokensAt >= 1000) {
      this.#tokensAt = now;
      this.#tokensLeft = Math.max(1, tokensPerSecond);
    }
    return this.#tokensLeft-- > 0;
  }

  #locate(res: HttpResponse, caller: Caller, question: Question, who: User): void {
    const { targets, looks, placement } = this.#options;
    if (placement.mode === "any" && question.not.length === 0) return this.#answer(res, caller, question, who, null);
    const reported = question.not.length === 0 ? [] : targets.all().filter(({ node, isSelf }) => !isSelf && question.not.includes(node.id));
    const owner = who.user === null ? null : targets.owner(who.tenant, who.user);
    if (owner === null || !reported.includes(owner)) {
      // The answer leaves them out already. The looks are for others.
      for (const { node } of reported) looks.look(node.id, () => {});
      return this.#answer(res, caller, question, who, owner);
    }
    // One caller that cannot reach the owner may have no network. The user stays there unless this node cannot, either.
    this.#wait(res, (answer) => looks.look(owner.node.id, () => answer(() => this.#answer(res, caller, question, who, targets.owner(who.tenant, who.user!)))));
  }

  #answer(res: HttpResponse, caller: Caller, { region, not, resume }: Question, { tenant, user }: User, owner: Target | null): void {
    const { targets, state, placement, tickets, counters, placeTickets } = this.#options;
    const target = owner ?? targets.choose(region, not);
    if (target === null) return this.#refuse(res, caller, { status: unavailable, code: "unavailable", text: state.problem || "no node takes clients now" });
    const isReturning = resume !== "" && !this.#shown.has(resume) && tickets.isGood(resume) && this.#shown.add(resume);
    const delayMs = target.slots.take(isReturning, performance.now());
    if (delayMs === noSlot) return this.#refuse(res, caller, busy);
    counters.add("urlsAnswered", 1);
    const text = target.isSelf && this.#isUnconfigured ? this.#ownText(caller, target) : target.text;
    const partition = user !== null && placement.mode !== "any" ? `,"partition":${placement.partitionOf(tenant, user)}` : "";
    const common = `,"placement":"${placement.mode}"${partition}`;
    // Where every node serves every user, and none has to wait, a ticket would say nothing.
    if (placement.mode === "any" && target.node.slotsPerSecond === 0) return send(res, caller, `${text.alone}${common},"retryAfterMs":0}`);
    const ticket = placeTickets.make(target.tag, user === null ? 0 : userTag(tenant, user), delayMs, 0, isReturning);
    const expiresAt = Date.now() + delayMs + placeTicketMs;
    send(res, caller, `${text.url}${ticket}${text.node}${common},"ticket":"${ticket}","expiresAt":${expiresAt},"retryAfterMs":${delayMs}}`);
  }

  /** For this node, where its URL is not configured. */
  #ownText({ host, forwardedProto }: Caller, target: Target): AnswerText {
    if (this.#own.host !== host || this.#own.forwardedProto !== forwardedProto) {
      const url = urlOfHost(this.#options.config, host, forwardedProto);
      this.#own = { host, forwardedProto, text: url === null ? null : answerText(url, target.node.id) };
    }
    return this.#own.text ?? target.text;
  }

  #refuse(res: HttpResponse, { origin, isHead }: Caller, { status, code, text }: Refusal): void {
    this.#options.counters.add("urlsRefused", 1);
    respondError(res, status, code, text, {
      isHead,
      headers: {
        "Cache-Control": "no-store",
        ...(origin !== "" && { "Access-Control-Allow-Origin": origin, Vary: "Origin" }),
        ...(status === unavailable && { "Retry-After": retryAfter() }),
        ...(code === "unauthorized" && { "WWW-Authenticate": "Bearer" }),
      },
    });
  }

  /** For answers that come later: the caller may be gone by then. */
  #wait(res: HttpResponse, start: (answer: (respond: () => void) => void) => void): void {
    let isGone = false;
    res.onAborted(() => (isGone = true));
    start((respond) => void (isGone || res.cork(respond)));
  }
}

function send(res: HttpResponse, { origin, isHead }: Caller, body: string): void {
  res.writeHeader("Content-Type", jsonType).writeHeader("Cache-Control", "no-store");
  if (origin !== "") res.writeHeader("Access-Control-Allow-Origin", origin).writeHeader("Vary", "Origin");
  if (isHead) res.writeHeader("Content-Length", String(Buffer.byteLength(body))).endWithoutBody();
  else res.end(body);
}

const unavailable = "503 Service Unavailable";
const badRequest = (text: string): Refusal => ({ status: "400 Bad Request", code: "bad_request", text });
const unauthorized = (text: string): Refusal => ({ status: "401 Unauthorized", code: "unauthorized", text });
const forbiddenUser: Refusal = { status: "403 Forbidden", code: "forbidden", text: "user: the token belongs to another user" };
const forbiddenOrigin: Refusal = { status: "403 Forbidden", code: "forbidden", text: "Origin: may not ask: it is not the node's own and not in --allowed-origins" };
const otherSecret: Refusal = { status: unavailable, code: "unavailable", text: "other nodes would not know the tickets of this node: they use another secret, see the log of this node" };
const busy: Refusal = { status: unavailable, code: "overloaded", text: "too many clients ask for a node: retry later" };
