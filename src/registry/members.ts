/**
 * The state of the other nodes, judged by their heartbeats. Every heartbeat changes a node's entry. This node measures
 * the time without a change by its own monotonic clock, so no other clock has to be right. Silence counts only while
 * this node has been reading: a node is never declared down for a time that was not observed.
 */
import * as z from "zod";
import type { NodeFacts, OwnState, RegisteredNode, RegistryEvents } from "./registry.ts";

const facts = z.object({
  ip: z.string(), port: z.number(), url: z.string(), region: z.string(), load: z.number(), cpu: z.number(), rss: z.number(),
  reactors: z.number(), state: z.enum(["up", "draining"]), version: z.string(), sockets: z.number(), started: z.number(),
  last_heartbeat: z.number(),
});

/** A node's own entry. */
export interface Entry extends NodeFacts {
  readonly state: OwnState;
  readonly last_heartbeat: number;
}

export interface MembersOptions {
  /** This node, which is not among the members. */
  readonly self: string;
  /** After this silence a node is down. After this much more, its entry is removed. */
  readonly deadMs: number;
  readonly forgetMs: number;
  /** The time between two looks further apart than this was not observed. */
  readonly gapMs: number;
  /** Monotonic. */
  readonly clock: () => number;
  readonly events: RegistryEvents;
}

interface Member {
  readonly id: string;
  text: string;
  entry: Entry;
  down: boolean;
  /** When its last change was seen, or when this node began to look again. */
  heardAt: number;
}

export class Members {
  readonly #options: MembersOptions;
  readonly #members = new Map<string, Member>();
  /** Nodes that left a moment ago, with their start time: a look under way may still show their entries. */
  readonly #left = new Map<string, { readonly started: number; readonly at: number }>();
  #lookedAt: number;

  constructor(options: MembersOptions) {
    this.#options = options;
    this.#lookedAt = options.clock();
  }

  /**
   * Judges the current entries of all nodes. `wasAway`: since the last look, nodes may have been unable to write. Those
   * still reconnecting get the whole time again. Otherwise, a gap comes from this node, which was busy. Such a pause
   * does not count as silence of others, but what was seen between pauses does.
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

  /** A node's entry was read or received. An unchanged or unreadable entry is ignored. */
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

  /** A node has announced that it leaves, or another node has removed its entry. */
  left(id: string): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    this.#members.delete(id);
    this.#left.set(id, { started: member.entry.started, at: this.#options.clock() });
    this.#tell("left", member);
  }

  /** Nodes that were silent long enough to remove their entries, with these entries. */
  forgettable(): [id: string, text: string][] {
    const before = this.#options.clock() - this.#options.forgetMs;
    return [...this.#members.values()].filter(({ down, heardAt }) => down && heardAt <= before).map(({ id, text }) => [id, text]);
  }

  list(): RegisteredNode[] {
    return [...this.#members.values()].map((member) => this.#asSeen(member)).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** A silent node without an entry is gone, no matter which node removed the entry. */
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
    return null; // written by other software, or by a version with other fields
  }
}
