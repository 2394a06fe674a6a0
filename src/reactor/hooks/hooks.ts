/**
 * Questions of this reactor to the application's backend. The main thread sends them (src/hooks). A question waits
 * there, no longer than hookTimeoutMs, so every one gets a verdict.
 */
import { readVerdict, writeAsk, type HookVerdict, type Question } from "../../link/hooks.ts";
import type { RecordReader } from "../../link/link.ts";
import type { Context } from "../context.ts";
import { letGo, wait } from "../session/held.ts";
import type { Session, Waiting } from "../session/session.ts";

type Then = (verdict: HookVerdict) => void;

interface Asked {
  readonly session: Session;
  readonly life: number;
  /** The session's frames wait for this verdict. */
  readonly holds: boolean;
  readonly then: Then;
}

/** A session and the frames that waited. */
export interface Released {
  readonly session: Session;
  readonly held: Waiting;
}

export class ReactorHooks {
  readonly asksConnect: boolean;
  readonly asksRefresh: boolean;
  readonly #context: Context;
  readonly #asked = new Map<number, Asked>();
  #lastNumber = 0;

  constructor(context: Context) {
    this.#context = context;
    this.asksConnect = context.config.hookConnect !== "";
    this.asksRefresh = context.config.hookRefresh !== "";
  }

  /**
   * Asks. `then` is called in a later turn of the loop, unless the session's socket is gone or closing by then. A
   * payload in the verdict is valid until it returns. False: the hub is too far behind, nothing is asked.
   */
  ask(session: Session, question: Question, then: Then): boolean {
    return this.#ask(session, question, false, then);
  }

  /** The same for a command of a ready session, whose later commands wait behind it. */
  askForCommand(session: Session, id: number, question: Question, then: Then): boolean {
    // Only a refresh comes here while another command waits: its token was verified meanwhile. Frames stay behind that one.
    const holds = session.waiting === null;
    if (!this.#ask(session, question, holds, then)) return false;
    if (holds) wait(session, id);
    return true;
  }

  #ask(session: Session, question: Question, holds: boolean, then: Then): boolean {
    const number = (this.#lastNumber = (this.#lastNumber + 1) >>> 0);
    if (!writeAsk(this.#context.link, number, question)) return false;
    this.#asked.set(number, { session, life: session.life, holds, then });
    return true;
  }

  /** @returns frames that waited behind the command, to be dispatched now. */
  onVerdict(record: RecordReader): Released | null {
    const { number, verdict } = readVerdict(record);
    const asked = this.#asked.get(number);
    if (asked === undefined) return null;
    this.#asked.delete(number);
    const { session, life, holds, then } = asked;
    if (session.life !== life || session.socket === null || (session.state !== "handshake" && session.state !== "ready")) return null;
    const held = holds ? letGo(this.#context, session) : null;
    then(verdict);
    return held === null ? null : { session, held };
  }
}
