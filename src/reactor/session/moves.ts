/**
 * Moves the sessions of users that got another owner, gently. After each new table the reactor looks at all its
 * sessions, some in each step, and sends those of other nodes' users there, at the rate that the node allows now. While
 * the rate is 0, since a node is being lost or drained, everybody stays.
 *
 * A session that cannot move yet, since its owner takes no clients, is looked at again later.
 */
import type { Reactor } from "../reactor.ts";
import { Farewells } from "./farewells.ts";
import { isUsable, reconnectTo } from "./directions.ts";
import type { Session } from "./session.ts";

const stepMs = 100;
/** Sessions looked at in a step: a fifth of a millisecond. Those of a partition that is handed over leave together. */
const looksPerStep = 1_000;
const looksPerStepHeld = 10_000;
/** So much of a second's moves may come at once. */
const burstSeconds = 0.2;
const againMs = 10_000;
const againHeldMs = 1_000;

export class Moves {
  readonly #reactor: Reactor;
  readonly #reactors: number;
  readonly #farewells: Farewells;
  #timer: NodeJS.Timeout | null = null;
  #table = 0;
  /** The next slot to look at. Infinity: all sessions are where they belong. */
  #next = Infinity;
  /** When those that could not move are looked at again. */
  #againAt = Infinity;
  #credit = 0;
  #steppedAt: number | null = null;
  /** Served here though they belong elsewhere, since they did not arrive there. The next table counts anew. */
  #stranded = new WeakSet<Session>();

  /** @param reactors of the node, which share its rate */
  constructor(reactor: Reactor, reactors: number) {
    this.#reactor = reactor;
    this.#reactors = reactors;
    this.#farewells = new Farewells(reactor, "moved");
  }

  start(): void {
    if (this.#reactor.placement.mode !== "any") this.#timer = setInterval(() => this.step(performance.now()), stepMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** See reactor.ts. */
  strand(session: Session): void {
    this.#stranded.add(session);
  }

  /** See reactor.ts. */
  arrived(session: Session, now = performance.now()): void {
    if (this.#reactor.placement.mode !== "any" && this.#isMisplaced(session)) this.#againAt = Math.min(this.#againAt, now + againMs);
  }

  /** @param now milliseconds, monotonic */
  step(now: number): void {
    const { placement } = this.#reactor;
    this.#farewells.step(now);
    // What a partition's holder hands over does not change the table.
    const table = placement.mode === "partition" ? placement.generation : placement.table;
    if (table !== this.#table) {
      this.#table = table;
      this.#stranded = new WeakSet();
      this.#next = 0;
    } else if (now >= this.#againAt && this.#next === Infinity) this.#next = 0;
    this.#earn(placement.movesPerSecond / this.#reactors, now);
    if (this.#next !== Infinity) this.#look(now);
  }

  #earn(perSecond: number, now: number): void {
    const elapsedMs = now - (this.#steppedAt ?? now);
    this.#steppedAt = now;
    this.#credit = perSecond === 0 ? 0 : Math.min(Math.max(1, perSecond * burstSeconds), this.#credit + (perSecond * elapsedMs) / 1000);
  }

  #look(now: number): void {
    const { sessions, placement } = this.#reactor;
    const isHeld = placement.mode === "partition";
    if (this.#next === 0) this.#againAt = Infinity;
    const end = Math.min(sessions.end, this.#next + (isHeld ? looksPerStepHeld : looksPerStep));
    // The main thread paces partitions, and all sessions of one leave at once.
    for (; this.#next < end && (isHeld || this.#credit >= 1); this.#next++) {
      const session = sessions.at(this.#next);
      if (session === null || !this.#isMisplaced(session)) continue;
      if (this.#move(session, now)) this.#credit--;
      else this.#againAt = now + (isHeld ? againHeldMs : againMs);
    }
    if (this.#next >= sessions.end) this.#next = Infinity;
    // Their users are served nowhere until they arrive.
    if (isHeld) this.#farewells.step(now);
  }

  #isMisplaced(session: Session): boolean {
    const { placement, leaving } = this.#reactor;
    if (session.state !== "ready" || session.grant === null) return false;
    const owner = placement.ownerOf(session.grant.tenant, session.grant.user);
    return owner >= 0 && owner !== placement.self && !leaving.has(session) && !this.#stranded.has(session);
  }

  /** False: it cannot go there now. */
  #move(session: Session, now: number): boolean {
    const { targets, counters } = this.#reactor;
    const grant = session.grant!;
    const target = targets.belonging(grant.tenant, grant.user);
    // Its user may belong here again by now.
    if (target === undefined || target.isSelf) return true;
    if (!isUsable(this.#reactor, session, target)) return false;
    const reconnect = reconnectTo(this.#reactor, session, target, grant, 1, true);
    if (reconnect === null) return false;
    counters.add("moved", 1);
    this.#farewells.begin(session, reconnect, now);
    return true;
  }
}
