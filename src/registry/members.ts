/**
 * Who is there, judged by what was seen of them. A node writes something new with every heartbeat; how long nothing new
 * was seen is measured by this node's own monotonic clock, so nobody's clock has to be right. Silence counts only while
 * this node has been looking: nobody is accused of what it did not see.
 */
import * as z from "zod";
import type { NodeFacts, OwnState, RegisteredNode, RegistryEvents } from "./registry.ts";

const facts = z.object({
  ip: z.string(), port: z.number(), url: z.string(), region: z.string(), load: z.number(), cpu: z.number(), rss: z.number(),
  reactors: z.number(), state: z.enum(["up", "draining"]), version: z.string(), sockets: z.number(), started: z.number(),
  last_heartbeat: z.number(),
});

/** What a node writes of itself. */
export interface Entry extends NodeFacts {
  readonly state: OwnState;
  readonly last_heartbeat: number;
}

export interface MembersOptions {
  /** This node, which is not among them. */
  readonly self: string;
  /** Silent for so long: down. Down and silent for so long: to be forgotten. */
  readonly deadMs: number;
  readonly forgetMs: number;
  /** What is between looks that are further apart than this was not seen. */
  readonly gapMs: number;
  /** Never steps. */
  readonly clock: () => number;
  readonly events: RegistryEvents;
}

interface Member {
  readonly id: string;
  text: string;
  entry: Entry;
  down: boolean;
  /** When it said something new last, or this node began to look again. */
  heardAt: number;
}

export class Members {
  readonly #options: MembersOptions;
  readonly #members = new Map<string, Member>();
  /** Who left a moment ago, and which life of theirs it was: a look that was under way may still show them. */
  readonly #left = new Map<string, { readonly started: number; readonly at: number }>();
  #lookedAt: number;

  constructor(options: MembersOptions) {
    this.#options = options;
    this.#lookedAt = options.clock();
  }

  /**
   * All that is written of nodes now. `wasAway`: since the last look they may not have been able to write, and those that
   * are still on their way back have their whole time again. Else it was this node that did not look, as it does where it
   * is busy now and then: its pauses are not their silence, but what it saw between them is.
   */
  look(written: ReadonlyMap<string, string>, wasAway: boolean): void {
    const now = this.#options.clock();
    const gap = now - this.#lookedAt;
    this.#lookedAt = now;
    for (const [id, { at }] of this.#left) if (now - at > this.#options.deadMs) this.#left.delete(id);
    for (const member of this.#members.values()) {
      if (gap > this.#options.gapMs && !member.down) member.heardAt = wasAway ? now : Math.min(now, member.heardAt + gap);
    }
    for (const [id, text] of written) this.heard(id, text);
    for (const member of [...this.#members.values()]) this.#judge(member, now, written.has(member.id));
  }

  /** What a node has said of itself. What it has said before is no news, and nor is what cannot be read. */
  heard(id: string, text: string): void {
    const known = this.#members.get(id);
    if (id === this.#options.self || known?.text === text) return;
    const entry = read(text);
    if (entry === null || this.#left.get(id)?.started === entry.started) return;
    const heardAt = this.#options.clock();
    const before = known === undefined || known.down ? "down" : known.entry.state;
    const member: Member = { id, text, entry, down: false, heardAt };
    this.#members.set(id, member);
    if (before !== entry.state) this.#tell(entry.state, member);
  }

  /** A node has said that it goes, or was forgotten by another. */
  left(id: string): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    this.#members.delete(id);
    this.#left.set(id, { started: member.entry.started, at: this.#options.clock() });
    this.#tell("left", member);
  }

  /** Nodes that were silent for so long that what is written of them may go, and what that is. */
  forgettable(): [id: string, text: string][] {
    const before = this.#options.clock() - this.#options.forgetMs;
    return [...this.#members.values()].filter(({ down, heardAt }) => down && heardAt <= before).map(({ id, text }) => [id, text]);
  }

  list(): RegisteredNode[] {
    return [...this.#members.values()].map((member) => this.#asSeen(member)).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** A node that is written nowhere any more and was silent long enough is gone, whoever took it out. */
  #judge(member: Member, now: number, isWritten: boolean): void {
    if (now - member.heardAt < this.#options.deadMs) return;
    if (!member.down) {
      member.down = true;
      this.#tell("down", member);
    }
    if (!isWritten) this.left(member.id);
  }

  #asSeen({ id, entry, down, heardAt }: Member): RegisteredNode {
    return { id, ...entry, state: down ? "down" : entry.state, silentMs: Math.round(this.#options.clock() - heardAt) };
  }

  #tell(kind: "up" | "draining" | "down" | "left", member: Member): void {
    this.#options.events.nodeChanged({ kind, node: this.#asSeen(member) });
  }
}

function read(text: string): Entry | null {
  try {
    return facts.parse(JSON.parse(text));
  } catch {
    return null; // written by something else, or by a version that says other things
  }
}
