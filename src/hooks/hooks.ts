/**
 * Hooks: questions to the application's backend before a session begins, a client joins or publishes, or gets a new
 * token. Reactors ask through their rings. The requests leave from the main thread, which has one pool of connections,
 * one breaker and one memory of verdicts for the whole node.
 */
import type { Config } from "../config/config.ts";
import { compileKinds, namespaceOf } from "../config/roomnames.ts";
import { readAsk, writeVerdict, type AskRecord, type HookName, type HookVerdict } from "../link/hooks.ts";
import type { Link, RecordReader } from "../link/link.ts";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { Backend } from "./backend.ts";
import { bodyOf } from "./body.ts";
import { answerBucketsMs, HookCounts, type HookUsage } from "./counts.ts";
import { Questions, type Failed } from "./questions.ts";
import { RememberedVerdicts } from "./remembered.ts";
import { Signer } from "./signature.ts";
import { readVerdict, type Answered, type VerdictLimits } from "./verdict.ts";

/** A verdict and the payload it may replace. */
const answerBytes = 65_536;
const textMax = 200;

/** The reactor that asks. */
export interface AskingReactor {
  readonly link: Link;
  readonly live: boolean;
}

export interface HooksOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
}

/** One URL that is asked one kind of question. */
interface Hook {
  /** For logs, such as `hookJoin of chat`. */
  readonly title: string;
  readonly isAllowedOnFailure: boolean;
  readonly questions: Questions<Answered>;
  readonly backend: Backend;
  readonly counts: HookCounts;
}

export class Hooks {
  readonly #node: string;
  readonly #log: Logger;
  /** By kind of question, and the namespace of its room. */
  readonly #hooks = new Map<string, Hook>();
  readonly #limits: VerdictLimits;
  readonly #remembered = new RememberedVerdicts();
  readonly #sparse = new Sparse();

  constructor({ config, version, log }: HooksOptions) {
    this.#node = config.nodeId;
    this.#log = log;
    const { roomNameBytesMax, frameBytesMax } = config;
    this.#limits = { kindOf: compileKinds(config), roomNameBytesMax, frameBytesMax };
    const signer = new Signer([config.hookSecret, config.hookSecretPrevious]);
    const { hookTimeoutMs: timeoutMs, hookConnectionsMax: connectionsMax } = config;
    const add = (hook: HookName, namespace: string, url: string, onFailure: "deny" | "allow") => {
      if (url === "") return;
      const title = `hook${hook[0]!.toUpperCase()}${hook.slice(1)}${namespace === "" ? "" : ` of ${namespace}`}`;
      // Base64 takes a third more, and JSON may escape what it holds.
      const answerBytesMax = answerBytes + (hook === "publish" ? 2 * frameBytesMax : 0);
      const backend = new Backend({ url, connectionsMax, answerBytesMax, connectTimeoutMs: timeoutMs, userAgent: `flux-gateway/${version}` });
      const onBreaker = (state: string, text: string) => this.#tellBreaker(title, state, text);
      const questions = new Questions<Answered>({ backend, signer, connectionsMax, timeoutMs, onBreaker, log });
      this.#hooks.set(keyOf(hook, namespace), { title, isAllowedOnFailure: onFailure === "allow", questions, backend, counts: new HookCounts(hook, namespace) });
    };
    add("connect", "", config.hookConnect, config.hookOnFailure);
    add("refresh", "", config.hookRefresh, config.hookOnFailure);
    for (const [name, { hookJoin, hookPublish, hookOnFailure }] of Object.entries(config.namespaces)) {
      add("join", name, hookJoin, hookOnFailure);
      add("publish", name, hookPublish, hookOnFailure);
    }
  }

  /** Handles the question in a reactor's record. A bug of ours costs only this question. */
  onRecord(reactor: AskingReactor, record: RecordReader): void {
    const asked = readAsk(record);
    const failed = (error: unknown) => {
      this.#log.error({ err: error }, "hooks: a question failed: the ring is too small for its verdict (--ring-bytes), or this is a bug");
      if (reactor.live) writeVerdict(reactor.link, asked.number, { kind: "unanswered", isAllowed: false, isFull: false, text: "" });
    };
    try {
      this.ask(asked, (verdict) => {
        try {
          if (reactor.live) writeVerdict(reactor.link, asked.number, verdict);
        } catch (error) {
          failed(error);
        }
      });
    } catch (error) {
      failed(error);
    }
  }

  /** `done` is called once, maybe at once. */
  ask(asked: AskRecord, done: (verdict: HookVerdict) => void): void {
    const hook = this.#hooks.get(keyOf(asked.hook, asked.room === "" ? "" : namespaceOf(asked.room)));
    // The reactor has the same configuration.
    if (hook === undefined) throw new Error(`no hook ${asked.hook} for ${asked.room}`);
    const { counts, questions } = hook;
    const known = this.#remembered.get(asked);
    if (known !== undefined) {
      counts.remembered++;
      return done(known);
    }
    const keep = this.#remembered.keeping(asked);
    const since = performance.now();
    const read = (body: string) => readVerdict(asked.hook, body, this.#limits, Date.now());
    questions.ask(bodyOf(this.#node, asked), read, (outcome) => {
      counts.took(performance.now() - since);
      if ("failure" in outcome) return done(this.#unanswered(hook, outcome));
      counts.decided(outcome.verdict.kind);
      keep(outcome);
      done(outcome.verdict);
    });
  }

  #unanswered({ title, isAllowedOnFailure, counts }: Hook, { failure, text }: Failed): HookVerdict {
    counts.failed(failure);
    // The breaker has its own line.
    const unsaid = failure === "breaker" ? null : this.#sparse.due(`${title} ${failure}`);
    const then = isAllowedOnFailure ? "hookOnFailure allows what was asked" : "hookOnFailure denies what was asked";
    if (unsaid !== null) this.#log.warn({ failure, ...(unsaid > 0 && { unsaid }) }, `${title}: the backend gave no verdict: ${text}; ${then}`);
    return { kind: "unanswered", isAllowed: isAllowedOnFailure, isFull: failure === "full", text: `${title}: ${text}`.slice(0, textMax) };
  }

  #tellBreaker(title: string, state: string, text: string): void {
    if (state === "open") this.#log.error({ hook: title }, `${title}: the backend fails and is not asked for now: ${text}; one question every few seconds tries it again`);
    else this.#log.info({ hook: title }, `${title}: the backend answers again`);
  }

  /** A user was signed out: what was decided about the user before counts no longer. */
  signedOut(userKey: string): void {
    this.#remembered.signedOut(userKey);
  }

  usage(): { readonly remembered: number; readonly boundsMs: readonly number[]; readonly hooks: readonly HookUsage[] } {
    const hooks = [...this.#hooks.values()].map(({ counts, questions: { sent, running, waiting, breaker } }) => ({ ...counts.read(), sent, running, waiting, breaker }));
    return { remembered: this.#remembered.size, boundsMs: answerBucketsMs, hooks };
  }

  async close(): Promise<void> {
    for (const { questions } of this.#hooks.values()) questions.close();
    await Promise.all([...this.#hooks.values()].map(({ backend }) => backend.close()));
  }
}

function keyOf(hook: HookName, namespace: string): string {
  return `${hook} ${namespace}`;
}
