/**
 * The nodes that clients can be sent to, as this reactor knows them, and the choice among them where every node may
 * serve every user. Work decides, not the number of sockets: see docs/placement.md.
 */
import { placeTag } from "../../auth/placetickets.ts";
import type { PlacedNode, PlacementView } from "../../placement/view.ts";
import { asciiJson } from "../transport/safetext.ts";
import { Slots } from "./slots.ts";

export interface Target {
  /** The clients that it was sent lately, and when that was counted. */
  sent: number;
  sentAt: number;
  readonly node: PlacedNode;
  readonly isSelf: boolean;
  /** How tickets name it. */
  readonly tag: number;
  readonly slots: Slots;
  /** Parts of the answer around the ticket. */
  readonly text: AnswerText;
}

/** Between them stand the ticket, twice, and the numbers. */
export interface AnswerText {
  readonly url: string;
  readonly node: string;
  /** Url and node, without a ticket. */
  readonly alone: string;
}

export interface TargetsOptions {
  readonly view: PlacementView;
  /** Reactors of this node, which share what it may hand out. */
  readonly reactors: number;
  /** Nodes that this node has found to refuse connections. */
  refuses(node: string): boolean;
  /** This node takes clients. */
  ready(): boolean;
  /** From 0 to 1, and milliseconds; replaced in tests. */
  readonly random?: () => number;
  readonly now?: () => number;
}

export class Targets {
  readonly #options: TargetsOptions;
  #generation = -1;
  #all: readonly Target[] = [];
  #heaviest = 1;
  readonly #now: () => number;

  constructor(options: TargetsOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  all(): readonly Target[] {
    const { view } = this.#options;
    if (view.generation !== this.#generation) this.#renew();
    return this.#all;
  }

  /** Whether clients may be sent there now. */
  takes({ node, isSelf }: Target): boolean {
    return node.state === "up" && (isSelf ? this.#options.ready() : !this.#options.refuses(node.id));
  }

  /**
   * The owner of the user, whether it takes clients or not. The main thread may change the list between two looks, and
   * an index of one list names another node in the next.
   */
  belonging(tenant: string, user: string): Target | undefined {
    const { view } = this.#options;
    for (;;) {
      const target = this.all()[view.ownerOf(tenant, user)];
      if (view.generation === this.#generation) return target;
    }
  }

  /** The owner of the user; null where there is none, or it takes no clients. */
  owner(tenant: string, user: string): Target | null {
    const target = this.belonging(tenant, user);
    return target !== undefined && this.takes(target) ? target : null;
  }

  /**
   * Of two nodes chosen at random, the one with less work: a single least loaded node would get everybody until its
   * load is reported again. Nodes of the region come first, then all; those in `not` only where no other is left. A node
   * with twice the weight is chosen twice as often; one of weight 0 only where no other takes clients.
   */
  choose(region: string, not: readonly string[]): Target | null {
    const all = this.all();
    // A node alone is asked most often.
    if (all.length === 1) return this.takes(all[0]!) ? all[0]! : null;
    let able = all.filter((target) => target.node.weight > 0 && this.takes(target));
    if (able.length === 0) able = all.filter((target) => this.takes(target));
    const wanted = not.length === 0 ? able : able.filter(({ node }) => !not.includes(node.id));
    const near = region === "" ? [] : wanted.filter(({ node }) => node.region === region);
    const among = [near, wanted, able].find((some) => some.length > 0) ?? [];
    const chosen = among.length < 2 ? among[0] : this.#better(among);
    if (chosen === undefined) return null;
    chosen.sent = this.#sentTo(chosen) + 1;
    chosen.sentAt = this.#now();
    return chosen;
  }

  #better(among: readonly Target[]): Target {
    const a = this.#pick(among, null);
    const b = this.#pick(among, a);
    return this.#work(b) < this.#work(a) - alike ? b : a;
  }

  /** One of them but `except` at random, each as often as its weight says. Either all have one, or none. */
  #pick(among: readonly Target[], except: Target | null): Target {
    const { random = Math.random } = this.#options;
    const parts = (target: Target) => (target === except ? 0 : target.node.weight || 1);
    let left = random() * among.reduce((sum, target) => sum + parts(target), 0);
    return among.find((target) => (left -= parts(target)) < 0) ?? among.find((target) => target !== except)!;
  }

  /**
   * Its reported load, and what its load does not show yet: a second's worth of handshakes counts as a tenth of its time.
   * Clients weigh less on a node of more weight.
   */
  #work(target: Target): number {
    const perSecond = target.node.slotsPerSecond || unlimitedPerSecond;
    const share = (target.node.weight || this.#heaviest) / this.#heaviest;
    return target.node.load + (loadPerSecondSent * this.#sentTo(target)) / (perSecond * share);
  }

  /** Loses what the node has reported meanwhile, little by little. */
  #sentTo({ sent, sentAt }: Target): number {
    return sent === 0 ? 0 : sent * Math.exp((sentAt - this.#now()) / reportedMs);
  }

  #renew(): void {
    const { view, reactors } = this.#options;
    const before = new Map(this.#all.map((target) => [target.node.id, target]));
    const { nodes, self } = view;
    this.#heaviest = Math.max(1, ...nodes.map(({ weight }) => weight));
    const askers = Math.max(1, nodes.filter(({ state }) => state === "up").length) * reactors;
    this.#all = nodes.map((node, i) => {
      const known = before.get(node.id);
      const slots = known?.slots ?? new Slots();
      slots.pace(node.slotsPerSecond / askers);
      const text = known?.node.url === node.url ? known.text : answerText(node.url, node.id);
      return { sent: known?.sent ?? 0, sentAt: known?.sentAt ?? 0, node, isSelf: i === self, tag: known?.tag ?? placeTag(node.id), slots, text };
    });
    this.#generation = view.generation;
  }
}

/** A difference in work that means nothing: chance decides. */
const alike = 0.02;
const loadPerSecondSent = 0.1;
const unlimitedPerSecond = 10_000;
/** Nodes report their load at this interval, by default. */
const reportedMs = 5_000;

/** @param url where the node is reached, which may have a query */
export function answerText(url: string, id: string): AnswerText {
  const [address = ""] = url.split("#");
  const node = asciiJson(JSON.stringify(id));
  const named = `${address}${address.includes("?") ? "&" : "?"}node=${encodeURIComponent(id)}`;
  const quoted = asciiJson(JSON.stringify(named));
  return { url: `{"url":${quoted.slice(0, -1)}&ticket=`, node: `","node":${node}`, alone: `{"url":${quoted},"node":${node}` };
}
