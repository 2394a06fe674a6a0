/** Pages of history from streams. Simultaneous requests for one page share one read. */
import { LRUCache } from "lru-cache";
import type { Answer, Page, Query, Retention, Stored } from "../../broker.ts";
import type { Arriving } from "../wire/arriving.ts";
import { overheadBytes } from "../outbox.ts";
import type { Kept, Reader } from "./reading.ts";
import type { Stream, Streams } from "../streams/streams.ts";

type PageAnswer = Answer<Page>;

/** A query with the room's stream and subject. */
interface Asked {
  readonly stream: Stream;
  readonly epoch: string;
  readonly subject: string;
  readonly retention: Retention;
  readonly query: Query;
}

interface Listed {
  readonly seq: number;
  readonly size: number;
}

/** Sequences listed to find the start of a page that is read backward. */
const listedMax = 2048;
const begunMax = 10_000;
/** Clocks of servers and nodes differ by up to this. */
const clockMarginMs = 60_000;

export class History {
  readonly #reader: Reader;
  readonly #streams: Streams;
  readonly #arriving: Arriving;
  /** Rooms that are known to have had a publication. */
  readonly #begun = new LRUCache<string, true>({ max: begunMax });
  readonly #reading = new Map<string, Promise<PageAnswer>>();

  constructor(reader: Reader, streams: Streams, arriving: Arriving) {
    this.#reader = reader;
    this.#streams = streams;
    this.#arriving = arriving;
  }

  /**
   * @param head of a room that is open here. Later publications are left out of the page, for they are about to be
   * delivered. Null: ask the stream.
   */
  page(stream: Stream, subject: string, retention: Retention, query: Query, head: number | null): Promise<PageAnswer> {
    const { direction, position, bytesMax, bytesEach = 0, orOldest = false, recovers = false, archived = false } = query;
    const { epoch } = stream;
    const isLimited = recovers && stream.isUnlimited;
    const limit = isLimited ? Math.min(query.limit, retention.historySize) : query.limit;
    if (direction !== "newest" && position.epoch !== epoch) return Promise.resolve(unrecoverable);
    const seq = direction === "newest" ? "" : position.seq;
    const key = `${subject} ${epoch} ${direction} ${seq} ${limit} ${bytesMax} ${bytesEach} ${orOldest} ${recovers} ${archived} ${query.keys === true} ${head === null}`;
    const running = this.#reading.get(key);
    if (running !== undefined) return running;
    const read = this.#read({ stream, epoch, subject, retention, query: { ...query, limit } }, head).finally(() => this.#reading.delete(key));
    this.#reading.set(key, read);
    return read;
  }

  /**
   * Whether a room has one publication and had none before. The stream's acknowledgement does not tell, so the stream
   * is asked once per room, and again after the room was evicted here.
   */
  async isFirst(stream: Stream, subject: string): Promise<boolean> {
    if (this.#begun.has(subject)) return false;
    this.#begun.set(subject, true);
    const { subjects } = await this.#streams.state(stream, subject);
    return subjects?.[subject] === 1;
  }

  async #read(asked: Asked, known: number | null): Promise<PageAnswer> {
    const { stream, epoch, query } = asked;
    const head = known ?? (await this.#headOf(asked));
    if (query.direction !== "newest" && query.position.seq > head && !(await this.#isReached(asked))) return unrecoverable;
    const answer = query.direction === "since" ? await this.#since(asked, head) : await this.#before(asked, head);
    if (epoch === stream.epoch) return answer;
    return stream.epoch === "" ? { error: "unavailable" } : unrecoverable;
  }

  async #headOf({ stream, subject }: Asked): Promise<number> {
    const last = await this.#reader.last(stream, subject);
    return last > 0 ? last : this.#streams.headOf(stream);
  }

  /**
   * A room without publications has the stream's head as its position. The head moves, and another node may know a
   * later one.
   */
  async #isReached({ stream, query }: Asked): Promise<boolean> {
    return query.position.seq <= (await this.#streams.headOf(stream));
  }

  async #since(asked: Asked, head: number): Promise<PageAnswer> {
    const { stream, subject, query, epoch } = asked;
    const { seq } = query.position;
    const found: Stored[] = [];
    let trimmed = false;
    for (let from = seq, isFirst = true; ; isFirst = false) {
      const limit = query.limit + 2 - found.length;
      const { kept, ended } = await this.#reader.read(stream, subject, { from, limit, bytesMax: bytesOf(query), upTo: head });
      const isThere = isFirst && kept[0]?.seq === seq;
      if (isFirst && !(await this.#isWithin(asked, ended && kept.length))) return unrecoverable;
      trimmed ||= isFirst && !isThere && !(await this.#isComplete(asked));
      if (trimmed && query.orOldest !== true) return unrecoverable;
      // What precedes the oldest that is kept is not known: one that the member does not have.
      const before = found.at(-1)?.seq ?? (trimmed && kept[0] !== undefined ? Math.max(seq, kept[0].seq - 1) : seq);
      found.push(...this.#stored(isThere ? kept.slice(1) : kept, before, asked).filter((publication) => publication.seq <= head));
      const last = kept.at(-1)?.seq ?? Infinity;
      const isAtEnd = ended || last > head;
      const taken = fitting(found, query);
      // A page cut short by its bytes or by those of the read continues. So does one without readable messages.
      if (taken === found.length && found.length <= query.limit && !isAtEnd) {
        from = last + 1;
        continue;
      }
      const more = taken < found.length || !isAtEnd;
      return { value: { publications: found.slice(0, taken), position: { epoch, seq: head }, more, ...(trimmed && { trimmed }) } };
    }
  }

  /**
   * Whether a member may recover from its position: a stream without limits for each room keeps more than `historySize`.
   * @param all number of all messages from the position on, where it is known
   */
  async #isWithin({ stream, subject, retention: { historySize }, query }: Asked, all: number | false): Promise<boolean> {
    if (query.recovers !== true || !stream.isUnlimited || (all !== false && all <= historySize)) return true;
    return (await this.#reader.count(stream, subject, query.position.seq + 1)) <= historySize;
  }

  /** Whether no later message can have been removed, where the message at the position is gone. */
  async #isComplete({ stream, subject, retention, query }: Asked): Promise<boolean> {
    const { first_seq: first, subjects, created, isBounded } = await this.#streams.state(stream, subject);
    if (query.archived === true) return first <= query.position.seq + 1;
    // Other rooms' publications may have pushed it out. In a young stream nothing expires by age. A stream
    // without limits for each room loses publications at its start only.
    const isYoung = !isBounded && !stream.isUnlimited && Date.now() - Date.parse(created) < retention.historyTtlMs - clockMarginMs;
    return (subjects?.[subject] ?? 0) <= retention.historySize && (first <= query.position.seq + 1 || isYoung);
  }

  #before(asked: Asked, head: number): Promise<PageAnswer> {
    const { query } = asked;
    return this.#below(asked, query.direction === "before" ? Math.min(query.position.seq, head + 1) : head + 1, head);
  }

  async #below(asked: Asked, below: number, head: number): Promise<PageAnswer> {
    const { stream, subject, query, epoch } = asked;
    const listed = await this.#listBefore(asked, below, head);
    const wanted = newestOf(listed, query);
    const position = { epoch, seq: head };
    if (wanted.length === 0) return { value: { publications: [], position, more: false } };
    const kept: Kept[] = [];
    while (kept.length < wanted.length) {
      const from = kept.length === 0 ? wanted[0]!.seq : kept.at(-1)!.seq + 1;
      const piece = await this.#reader.read(stream, subject, { from, limit: wanted.length - kept.length, upTo: wanted.at(-1)!.seq });
      kept.push(...piece.kept);
      if (piece.ended) break;
    }
    const found = this.#stored(kept, listed.at(-wanted.length - 1)?.seq ?? 0, asked).filter(({ seq }) => seq < below);
    if (found.length === 0 && listed.length > wanted.length) return this.#below(asked, wanted[0]!.seq, head);
    const taken = fitting([...found].reverse(), query);
    const publications = found.slice(found.length - taken);
    return { value: { publications, position, more: taken < found.length || listed.length > wanted.length } };
  }

  /**
   * Sequences and sizes of the subject before `below`, oldest first: at least one more than the page takes, if there
   * are that many.
   */
  async #listBefore(asked: Asked, below: number, head: number): Promise<Listed[]> {
    const { stream, subject } = asked;
    const from = await this.#startBefore(asked, below);
    const listed: Listed[] = [];
    for (let next = from; ; ) {
      const { kept, ended } = await this.#reader.read(stream, subject, { from: next, limit: listedMax, what: "sizes", upTo: head });
      for (const { seq, size } of kept) if (seq < below) listed.push({ seq, size });
      const last = kept.at(-1)?.seq ?? below;
      if (ended || last >= below) return listed;
      next = last + 1;
    }
  }

  /** The start of enough messages for a page, found by bisection, since a stream can only count forward. */
  async #startBefore({ stream, subject, query }: Asked, below: number): Promise<number> {
    const beyond = await this.#reader.count(stream, subject, below);
    const countFrom = async (seq: number) => (await this.#reader.count(stream, subject, seq)) - beyond;
    if ((await countFrom(1)) <= listedMax) return 1;
    let low = 1;
    let high = below;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      const count = await countFrom(middle);
      if (count > listedMax) low = middle;
      else if (count <= query.limit) high = middle;
      else return middle;
    }
    return low;
  }

  #stored(kept: readonly Kept[], before: number, { epoch, query }: Asked): Stored[] {
    const found: Stored[] = [];
    let prev = before;
    for (const { seq, data } of kept) {
      const envelope = this.#arriving.read(data);
      if (envelope === null) continue;
      const { sender, time, payload, format, key } = envelope;
      found.push({ epoch, seq, prev, sender, time, payload, format, origin: "", ...(query.keys === true && { key }) });
      prev = seq;
    }
    return found;
  }
}

const unrecoverable: PageAnswer = { error: "unrecoverable_position" };

/** Bytes of a message besides its payload: usual, and at most. */
const besidesBytes = 512;
const besidesBytesMax = overheadBytes;

/** Bytes of one read: enough for most pages, including the message at the position before them. */
function bytesOf({ bytesMax, limit }: Query): number {
  return bytesMax + (limit + 2) * besidesBytes;
}

/** The messages at the end that a page may take: their payloads have at least this many bytes. */
function newestOf(listed: readonly Listed[], { limit, bytesMax, bytesEach = 0 }: Query): Listed[] {
  let bytes = 0;
  let count = 0;
  for (; count < Math.min(limit, listed.length); count++) {
    bytes += Math.max(0, listed[listed.length - 1 - count]!.size - besidesBytesMax) + bytesEach;
    if (count > 0 && bytes > bytesMax) break;
  }
  return listed.slice(listed.length - count);
}

/** Number of publications that a page takes. */
function fitting(publications: readonly Stored[], { limit, bytesMax, bytesEach = 0 }: Query): number {
  let bytes = 0;
  for (let i = 0; i < publications.length; i++) {
    bytes += publications[i]!.payload.length + bytesEach;
    if (i >= limit || (i > 0 && bytes > bytesMax)) return i;
  }
  return publications.length;
}
