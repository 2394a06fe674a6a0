/**
 * The placement in memory that all threads of a node share. The main thread writes it, every thread reads it.
 *
 *     [i32 sequence][i32 table][i32 self][i32 bytes of the list][i32 moves per second]
 *     [u16 owner of each partition][list of nodes: JSON]
 *
 * The sequence is odd while the main thread writes. A reader copies what it needs when the sequence has changed, and
 * keeps its copy until the next change. So a look-up costs one atomic read besides the hash.
 */
import { roomKey } from "../protocol/roomkeys.ts";
import { signedXxh32 } from "./hash.ts";
import type { PlacedNode, PlacementMode, PlacementView } from "./view.ts";

const sequenceAt = 0;
const tableAt = 1;
const selfAt = 2;
const listBytesAt = 3;
const movesAt = 4;
const wordsBytes = 20;
/** About a thousand nodes. */
const listBytesMax = 2 ** 18;
const nobody = 0xffff;

/** What the threads share. */
export interface Placed {
  readonly table: number;
  readonly nodes: readonly PlacedNode[];
  readonly self: number;
  /** Index of the owner of each partition, -1 for none. Empty: there is no table. */
  readonly owners: ArrayLike<number>;
}

export function createPlacement(partitions: number): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(wordsBytes + 2 * partitions + listBytesMax);
  const { words, owners } = partsOf(shared, partitions);
  Atomics.store(words, selfAt, -1);
  owners.fill(nobody);
  return shared;
}

function partsOf(shared: SharedArrayBuffer, partitions: number): { words: Int32Array; owners: Uint16Array; list: Uint8Array } {
  return {
    words: new Int32Array(shared, 0, wordsBytes / 4),
    owners: new Uint16Array(shared, wordsBytes, partitions),
    list: new Uint8Array(shared, wordsBytes + 2 * partitions),
  };
}

export class PlacementWriter {
  readonly #parts: ReturnType<typeof partsOf>;

  constructor(shared: SharedArrayBuffer, partitions: number) {
    this.#parts = partsOf(shared, partitions);
  }

  /** False: there are too many nodes for this memory, and nothing was written. */
  write({ table, nodes, self, owners: wanted }: Placed): boolean {
    const { words, owners, list } = this.#parts;
    const text = Buffer.from(JSON.stringify(nodes));
    if (text.length > list.length || nodes.length >= nobody) return false;
    Atomics.add(words, sequenceAt, 1);
    words[tableAt] = table;
    words[selfAt] = self;
    words[listBytesAt] = text.length;
    for (let i = 0; i < owners.length; i++) owners[i] = wanted[i] === undefined || wanted[i]! < 0 ? nobody : wanted[i]!;
    list.set(text);
    Atomics.add(words, sequenceAt, 1);
    return true;
  }

  /** By itself: it is no part of what must fit together. */
  writeMoves(perSecond: number): void {
    Atomics.store(this.#parts.words, movesAt, perSecond);
  }
}

export class SharedPlacement implements PlacementView {
  readonly mode: PlacementMode;
  readonly partitions: number;
  readonly #parts: ReturnType<typeof partsOf>;
  readonly #owners: Uint16Array;
  #sequence = 0;
  #table = 0;
  #self = -1;
  #owned = 0;
  #nodes: readonly PlacedNode[] = [];

  constructor(shared: SharedArrayBuffer, mode: PlacementMode, partitions: number) {
    this.mode = mode;
    this.partitions = partitions;
    this.#parts = partsOf(shared, partitions);
    this.#owners = new Uint16Array(partitions).fill(nobody);
  }

  get generation(): number {
    this.#look();
    return this.#sequence;
  }

  get table(): number {
    this.#look();
    return this.#table;
  }

  get self(): number {
    this.#look();
    return this.#self;
  }

  get movesPerSecond(): number {
    return Atomics.load(this.#parts.words, movesAt);
  }

  get owned(): number {
    this.#look();
    return this.#owned;
  }

  get nodes(): readonly PlacedNode[] {
    this.#look();
    return this.#nodes;
  }

  partitionOf(tenant: string, user: string): number {
    return (signedXxh32(roomKey(tenant, user)) >>> 0) % this.partitions;
  }

  ownerOf(tenant: string, user: string): number {
    this.#look();
    const owner = this.#owners[this.partitionOf(tenant, user)]!;
    return owner === nobody ? -1 : owner;
  }

  #look(): void {
    if (Atomics.load(this.#parts.words, sequenceAt) !== this.#sequence) this.#copy();
  }

  /** While the main thread writes, the copy before stays in use. */
  #copy(): void {
    const { words, owners, list } = this.#parts;
    const sequence = Atomics.load(words, sequenceAt);
    if (sequence % 2 !== 0) return;
    const [table, self, bytes] = [words[tableAt]!, words[selfAt]!, words[listBytesAt]!];
    const copied = owners.slice();
    const text = Buffer.from(list.slice(0, bytes)).toString();
    if (Atomics.load(words, sequenceAt) !== sequence) return;
    this.#nodes = text === "" ? [] : (JSON.parse(text) as PlacedNode[]);
    this.#owners.set(copied);
    this.#table = table;
    this.#self = self;
    this.#owned = copied.reduce((sum, owner) => sum + (owner === self ? 1 : 0), 0);
    this.#sequence = sequence;
  }
}
