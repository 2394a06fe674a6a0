/**
 * Keeps this node's placement up to date: adopts the newest table, makes a new one when it is this node's turn, and
 * writes both table and nodes where all threads of the node read them.
 *
 * One table at a time is in use. The node with the lowest id of those that place users makes it, or the next where
 * that one does not. Every table has a number, and all nodes use the one with the highest. A store that has lost its table, or returned with an older one,
 * gets it back from whichever node looks first. So nothing changes for users.
 */
import type { RegisteredNode } from "../registry/registry.ts";
import { repeated } from "../platform/repeated.ts";
import { Calm, moveRate } from "./calm.ts";
import type { Known } from "./explain.ts";
import { Members } from "./members.ts";
import { ownersOf } from "./ring.ts";
import { PlacementWriter } from "./shared.ts";
import { hashOf, weightOf, type Table } from "./table.ts";
import type { Tables } from "./tables.ts";
import type { PlacedNode, PlacementMode } from "./view.ts";

export interface PlacementOptions {
  readonly mode: PlacementMode;
  readonly partitions: number;
  readonly stableMs: number;
  /** After so long a node that was not seen is gone. */
  readonly deadMs: number;
  /** Interval at which nodes report. */
  readonly heartbeatMs: number;
  readonly node: string;
  readonly shared: SharedArrayBuffer;
  readonly tables: Tables;
  readonly movesPerSecond: number;
  readonly calmMs: number;
  readonly natsAway: () => boolean;
  readonly registry: { nodes(): readonly RegisteredNode[]; readonly stale: boolean };
  readonly log: { info(fields: object, text: string): void; warn(fields: object, text: string): void; error(fields: object, text: string): void };
  /** Monotonic. */
  readonly clock?: () => number;
}

const lookMs = 1_000;
/** A node is not silent while its next heartbeat may be on its way here. */
const lateBeats = 1.5;
/** A node that should make the next table and does not, is given this time before the next one makes it. */
const turnMs = 5_000;

export class Placement {
  readonly #options: PlacementOptions;
  readonly #writer: PlacementWriter;
  readonly #members: Members;
  readonly #clock: () => number;
  readonly #calm: Calm;
  #movesPerSecond = 0;
  /** Since when the table in use is not the one that belongs to the nodes. Infinity: it is. */
  #wrongSince = Infinity;
  #table: Table | null = null;
  /** Ids of the owners of all partitions, by the table in use. */
  #owners: readonly string[] = [];
  #heirs: { readonly of: Table; readonly ids: readonly string[] } | null = null;
  /** Mode `partition`: the ids of those who hold the partitions or claim them. "": nobody. */
  readonly #assigned: string[];
  #writesSoon = false;
  #timer: NodeJS.Timeout | null = null;
  readonly #looks = repeated(() => this.#lookOnce());
  #written = "";
  #tooMany = false;
  #problem = "";
  /** A table for another number of partitions was ignored, and this has been logged. */
  #ignored = false;

  constructor(options: PlacementOptions) {
    const { node, partitions, shared, stableMs, deadMs, heartbeatMs, calmMs, tables, clock = () => performance.now() } = options;
    this.#options = options;
    this.#clock = clock;
    this.#assigned = Array<string>(partitions).fill("");
    this.#writer = new PlacementWriter(shared, partitions);
    this.#members = new Members({ self: node, stableMs, unseenMs: deadMs, clock });
    this.#calm = new Calm({ calmMs, silentMs: Math.max(deadMs / 2, lateBeats * heartbeatMs), clock });
    tables.onWritten((table) => this.#adopt(table));
  }

  /** The table in use. Null: there is none, or the mode is `any`. */
  get table(): Table | null {
    return this.#table;
  }

  /** Sessions that may move in a second, and why none may; "" where they may. */
  get moves(): { readonly perSecond: number; readonly problem: string } {
    return { perSecond: this.#movesPerSecond, problem: this.#calm.problem };
  }

  /** "": there is no table yet, or no member. */
  ownerByTable(partition: number): string {
    return this.#owners[partition] ?? "";
  }

  /** The owner by a table without this node. "": there is none. */
  heirByTable(partition: number): string {
    const { node, partitions } = this.#options;
    const table = this.#table;
    if (table === null) return "";
    if (this.#heirs?.of !== table) {
      const members = table.members.filter(({ id }) => id !== node);
      this.#heirs = { of: table, ids: Array.from(ownersOf(members, partitions), (index) => members[index]?.id ?? "") };
    }
    return this.#heirs.ids[partition] ?? "";
  }

  /** Mode `partition`: who holds it or claims it, as far as this node has heard. "": nobody. */
  assign(partition: number, owner: string): void {
    if (this.#assigned[partition] === owner) return;
    this.#assigned[partition] = owner;
    if (this.#writesSoon) return;
    this.#writesSoon = true;
    // All changes of a turn are written together.
    queueMicrotask(() => {
      this.#writesSoon = false;
      this.#write();
    });
  }

  /** What explanations are made from. */
  get known(): Known {
    const { node, mode, partitions, registry } = this.#options;
    return { node, mode, partitions, table: this.#table, nodes: registry.nodes(), moves: this.moves };
  }

  usage(): { readonly table: number; readonly owned: number; readonly movesPerSecond: number } {
    const { node } = this.#options;
    return { table: this.#table?.number ?? 0, owned: this.#owners.filter((id) => id === node).length, movesPerSecond: this.#movesPerSecond };
  }

  async start(): Promise<void> {
    await this.look();
    this.#timer = setInterval(() => void this.look(), lookMs).unref();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#looks.running;
  }

  /** Looks at nodes and store. A call during a look makes it look once more. Never rejects. */
  look(): Promise<void> {
    return this.#looks.run();
  }

  async #lookOnce(): Promise<void> {
    this.#members.look(this.#options.registry.nodes());
    if (this.#options.mode !== "any") await this.#agree().catch((error: unknown) => this.#failed(error));
    this.#write();
    this.#allowMoves();
  }

  #allowMoves(): void {
    const { registry, natsAway, movesPerSecond } = this.#options;
    const nodes = registry.nodes();
    this.#calm.look({ nodes, stale: registry.stale, natsAway: natsAway() });
    this.#movesPerSecond = this.#calm.problem === "" ? moveRate(movesPerSecond, nodes) : 0;
    this.#writer.writeMoves(this.#movesPerSecond);
  }

  /** The table stays as it is. That the store is unavailable has been logged by its connection. */
  #failed(error: unknown): void {
    const problem = error instanceof Error && error.name !== "RedisAway" ? error.message : "";
    if (problem !== "" && problem !== this.#problem) this.#options.log.error({ problem }, "placement: the table cannot be read or stored, and users stay with their nodes; the node retries");
    this.#problem = problem;
  }

  /** Reads the stored table, gives it back where the store has lost it, and makes the next one if it is this node's turn. */
  async #agree(): Promise<void> {
    const { tables } = this.#options;
    const stored = await tables.read();
    if (stored !== null) this.#adopt(stored);
    const own = this.#table;
    if (own !== null && own.number > (stored?.number ?? 0)) this.#adopt(await tables.write(own));
    const next = this.#next(stored?.number ?? 0);
    if (next !== null) this.#adopt(await tables.write(next));
    this.#problem = "";
  }

  /** Null: the table in use is right, or another node should make the next. @param stored the number in the store */
  #next(stored: number): Table | null {
    const { node, partitions, registry } = this.#options;
    const nodes = registry.nodes();
    const members = this.#members.of(nodes, this.#table);
    const isRight = this.#table !== null && hashOf({ partitions, members }) === hashOf(this.#table);
    const now = this.#clock();
    if (registry.stale || isRight) this.#wrongSince = Infinity;
    else this.#wrongSince = Math.min(this.#wrongSince, now);
    const turn = this.#turnIn(nodes);
    if (turn < 0 || now - this.#wrongSince < turn * turnMs || this.#wrongSince === Infinity) return null;
    return { number: Math.max(this.#table?.number ?? 0, stored) + 1, partitions, members, by: node, at: Date.now() };
  }

  /** 0: this node makes the next table. 1: it does where the one before does not, and so on. -1: it makes none. */
  #turnIn(nodes: readonly RegisteredNode[]): number {
    const { mode, partitions, node } = this.#options;
    // Nodes that place no users make no table, though they may be members.
    const makers = nodes.filter((one) => one.state === "up" && one.placement === mode && one.partitions === partitions);
    return makers.map(({ id }) => id).sort().indexOf(node);
  }

  /** Of two tables with one number the stored one counts: only one of them can be stored. */
  #adopt(table: Table): void {
    const { partitions, log } = this.#options;
    if (table.partitions !== partitions) {
      if (!this.#ignored) log.error({ theirs: table.partitions, own: partitions, by: table.by }, `placement: node ${table.by} uses placementPartitions ${table.partitions}, this node ${partitions}: its table is ignored; set --placement-partitions alike on all nodes`);
      this.#ignored = true;
      return;
    }
    const before = this.#table;
    if (before !== null && table.number < before.number) return;
    if (before?.number === table.number && hashOf(before) === hashOf(table)) return;
    this.#table = table;
    const owners = ownersOf(table.members, partitions);
    this.#owners = Array.from(owners, (index) => table.members[index]?.id ?? "");
    log.info({ table: table.number, by: table.by, members: table.members.length }, `placement: table ${table.number} is in use`);
    this.#write();
  }

  /** Writes what reactors read, where it has changed. */
  #write(): void {
    const { registry, node, log } = this.#options;
    const nodes = registry.nodes().map(placedNode).sort((a, b) => (a.id < b.id ? -1 : 1));
    const table = this.#table?.number ?? 0;
    // Two tables may have one number, where Redis was set back.
    const isHeld = this.#options.mode === "partition";
    const text = JSON.stringify([table, this.#table && hashOf(this.#table), nodes, isHeld && this.#assigned]);
    if (text === this.#written) return;
    const indexes = new Map(nodes.map(({ id }, index) => [id, index]));
    const owners = (isHeld ? this.#assigned : this.#owners).map((id) => indexes.get(id) ?? -1);
    const isWritten = this.#writer.write({ table, nodes, self: indexes.get(node) ?? -1, owners });
    if (isWritten) this.#written = text;
    else if (!this.#tooMany) log.error({ nodes: nodes.length }, "placement: too many nodes: reactors keep the list before");
    this.#tooMany = !isWritten;
  }
}

function placedNode({ id, url, tcpUrl = "", region, load, handshakesPerSecond = 0, weight, state }: RegisteredNode): PlacedNode {
  return { id, url, tcpUrl, region, load, slotsPerSecond: handshakesPerSecond, weight: weightOf(weight), state };
}
