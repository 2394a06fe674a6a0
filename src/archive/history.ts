/**
 * History that goes on in the archive: a broker whose pages, where the stream ends, continue there through the same
 * positions. What the stream has itself is read without PostgreSQL.
 */
import type { Answer, Broker, Page, Position, Query, Retention, Stored } from "../broker/broker.ts";
import { nameOfRoom, tenantOfRoom } from "../protocol/roomkeys.ts";
import type { Archive, ArchivePage } from "./archive.ts";

export interface ArchivedHistoryOptions {
  readonly archive: Archive;
  /** The stream of a room, by the room's key. */
  readonly streamOf: (room: string) => string;
  /** The archive could not be read. */
  readonly failed: (error: Error) => void;
}

type Done = (answer: Answer<Page>) => void;

/** @returns the broker with another `history` */
export function withArchive<B extends Broker>(broker: B, options: ArchivedHistoryOptions): B {
  const archived = new ArchivedHistory(broker, options);
  const history: Broker["history"] = (room, retention, query, done) => {
    const isArchived = retention.archive === true && (query.recovers !== true || retention.archiveRecovery === true);
    if (!isArchived) return broker.history(room, retention, query, done);
    const asked = { room, retention, query: { ...query, recovers: false } };
    broker.history(room, retention, asked.query, (answer) => archived.goOn(asked, query.recovers === true, answer, done));
  };
  return { ...broker, history };
}

interface Asked {
  readonly room: string;
  readonly retention: Retention;
  readonly query: Query;
}

const unrecoverable = { error: "unrecoverable_position" } as const;
const unavailable = { error: "unavailable" } as const;

class ArchivedHistory {
  readonly #broker: Broker;
  readonly #options: ArchivedHistoryOptions;

  constructor(broker: Broker, options: ArchivedHistoryOptions) {
    this.#broker = broker;
    this.#options = options;
  }

  /** The broker has answered: its page may end where the stream does. @param whole a gap makes the position unrecoverable */
  goOn(asked: Asked, whole: boolean, answer: Answer<Page>, done: Done): void {
    const { query } = asked;
    if ("error" in answer && answer.error !== "unrecoverable_position") return done(answer);
    if (query.direction === "since") return "value" in answer && answer.value.trimmed !== true ? done(answer) : this.#since(asked, whole, answer, done);
    if ("value" in answer && answer.value.more) return done(answer);
    // A member that joins does not wait for the archive.
    if (query.direction === "newest" && whole) return done(answer);
    this.#before(asked, answer, done);
  }

  /** @param answer of the broker, which no longer has everything after the position */
  #since(asked: Asked, whole: boolean, answer: Answer<Page>, done: Done): void {
    this.#read(asked, asked.query, done, (page) => {
      if (page === null || (whole && page.gapAfter)) return done(answer);
      if (page.more) return this.#withHead(asked, page, done);
      this.#sinceCursor(asked, whole, page, done);
    });
  }

  /** The archive has no more: what follows its cursor is in the stream. */
  #sinceCursor({ room, retention, query }: Asked, whole: boolean, page: ArchivePage, done: Done): void {
    const { publications, cursor, gap, gapAtEnd } = page;
    const { bytesEach = 0 } = query;
    const bytes = publications.reduce((sum, { payload }) => sum + payload.length + bytesEach, 0);
    const limit = query.limit - publications.length;
    const isFull = publications.length > 0 && (limit <= 0 || bytes >= query.bytesMax);
    const { epoch } = cursor;
    const seq = epoch === query.position.epoch ? Math.max(cursor.seq, query.position.seq) : cursor.seq;
    const onward: Query = { direction: "since", position: { epoch, seq }, limit: isFull ? 1 : limit, bytesMax: isFull ? 0 : query.bytesMax - bytes, bytesEach, archived: true, orOldest: !whole, ...(query.keys === true && { keys: true }) };
    this.#broker.history(room, retention, onward, (answer) => {
      // The stream is another one, or dropped more before it was archived.
      if ("error" in answer) return done(answer);
      const { publications: found, position, more, trimmed = false } = answer.value;
      const later = isFull ? [] : found.map((one, i) => (i > 0 ? one : { ...one, prev: trimmed || gapAtEnd ? one.seq - 1 : lastOf(publications, one, query) }));
      const isGap = gap || trimmed;
      done({ value: { publications: [...upTo(position, publications), ...later], position, more: more || (isFull && found.length > 0), ...(isGap && { gap: true }) } });
    });
  }

  /** The head of the room, for a page that does not reach it. */
  #withHead({ room, retention }: Asked, { publications, gap }: ArchivePage, done: Done): void {
    this.#broker.history(room, retention, { direction: "newest", position: { epoch: "", seq: 0 }, limit: 1, bytesMax: 0 }, (answer) => {
      if ("error" in answer) return done(answer);
      const { position } = answer.value;
      done({ value: { publications: upTo(position, publications), position, more: true, ...(gap && { gap: true }) } });
    });
  }

  /** @param answer the stream's part of the page, which may be none */
  #before(asked: Asked, answer: Answer<Page>, done: Done): void {
    const { query } = asked;
    const newer = "value" in answer ? answer.value : null;
    const oldest = newer?.publications[0];
    const { bytesEach = 0 } = query;
    const bytes = (newer?.publications ?? []).reduce((sum, { payload }) => sum + payload.length + bytesEach, 0);
    const limit = query.limit - (newer?.publications.length ?? 0);
    // Where the stream's part fills the page, one row tells whether there is more.
    const isFull = oldest !== undefined && (limit <= 0 || bytes >= query.bytesMax);
    const position = oldest ?? (query.direction === "newest" ? newer!.position : query.position);
    const direction = oldest === undefined && query.direction === "newest" ? "newest" : "before";
    const part = { ...query, direction, position, limit: isFull ? 1 : limit, bytesMax: isFull ? 0 : query.bytesMax - bytes } as const;
    const failed: Done = (error) => done(oldest === undefined ? error : { value: { ...newer!, more: true } });
    this.#read(asked, part, failed, (page) => {
      if (page === null) return done(newer === null ? unrecoverable : { value: newer });
      const older = isFull ? [] : newer === null ? page.publications : upTo(newer.position, page.publications);
      const more = page.more || (isFull && page.publications.length > 0);
      const merged = [...older, ...(newer?.publications ?? [])].map((one, i) => (oldest !== undefined && i === older.length && i > 0 ? { ...one, prev: page.gapAtEnd ? one.seq - 1 : older[i - 1]!.seq } : one));
      if (newer !== null) return done({ value: { publications: merged, position: newer.position, more, ...(page.gap && { gap: true }) } });
      this.#withHead(asked, page, (answer) => done("error" in answer ? answer : { value: { ...answer.value, more } }));
    });
  }

  #read({ room }: Asked, query: Query, failed: Done, use: (page: ArchivePage | null) => void): void {
    const { archive, streamOf } = this.#options;
    const asked = { ...query, stream: streamOf(room), tenant: tenantOfRoom(room), room: nameOfRoom(room) };
    const lost = (error: unknown) => this.#options.failed(error as Error);
    archive.history(asked).then(use, (error: unknown) => (lost(error), failed(unavailable))).catch(lost);
  }
}

/** What is archived after the head that the broker has delivered is about to be delivered by it. */
function upTo(head: Position, publications: readonly Stored[]): readonly Stored[] {
  return publications.filter(({ epoch, seq }) => epoch !== head.epoch || seq <= head.seq);
}

/** Seq of the publication before the first one from the stream: the last archived one, or the position itself. */
function lastOf(archived: readonly Stored[], next: Stored, { position }: Query): number {
  const last = archived.at(-1) ?? position;
  return last.epoch === next.epoch ? last.seq : next.seq - 1;
}
