/** The HTTP API on the port for clients: gives the requests of the reactors to the HTTP API. */
import { pieceBytes, readBytes, readId, readLines, readPiece, readRequest, windowBytes, writeEnd, type RequestHead, type RequestId } from "../link/api.ts";
import type { Link, RecordReader } from "../link/link.ts";
import { kinds } from "../link/records.ts";
import type { Logger } from "../platform/log/log.ts";
import { LinkExchange, type LinkRequest, type ReactorEnd } from "./exchange/overlink.ts";
import type { HttpApi } from "./http.ts";

/** A reactor, as the main thread knows it. */
interface Reactor {
  readonly link: Link;
}

export interface PublicPortOptions {
  readonly ringBytes: number;
  readonly log: Logger;
}

export class PublicPort {
  readonly #options: PublicPortOptions;
  readonly #ends = new WeakMap<Reactor, End>();

  /** Null: not yet open. No reactor listens before it is. */
  http: HttpApi | null = null;

  constructor(options: PublicPortOptions) {
    this.#options = options;
  }

  attach(reactor: Reactor): void {
    this.#ends.set(reactor, new End(reactor.link, this.#options.ringBytes));
  }

  /** The reactor is gone, and all its requests. */
  detach(reactor: Reactor): void {
    this.#ends.get(reactor)?.close();
    this.#ends.delete(reactor);
  }

  /** A bug that a record triggers costs only this record. */
  onRecord(reactor: Reactor, kind: number, record: RecordReader): void {
    const end = this.#ends.get(reactor);
    if (end === undefined) return;
    try {
      this.#dispatch(end, kind, record);
    } catch (err) {
      this.#options.log.error({ err, kind }, "http api: handling a record failed, the record is skipped: report this as a bug");
    }
  }

  /** There is room on the link of this reactor again. */
  onRoom(reactor: Reactor): void {
    this.#ends.get(reactor)?.goOn();
  }

  #dispatch(end: End, kind: number, record: RecordReader): void {
    switch (kind) {
      case kinds.apiRequest: {
        const exchange = end.begin(record);
        return exchange === null ? undefined : this.http?.serve(exchange);
      }
      case kinds.apiBody: {
        const read = readPiece(record);
        return end.find(read)?.received(read.piece, read.isLast);
      }
      case kinds.apiSent: {
        const read = readBytes(record);
        return end.find(read)?.sent(read.bytes);
      }
      case kinds.apiGone: return end.find(readId(record))?.gone();
      default: throw new Error(`unknown record ${kind}`);
    }
  }
}

/** Heads that are remembered, for clients that send many requests alike. */
const headsMax = 500;
const headCharsMax = 1_024;

type Head = Pick<LinkRequest, "from" | "method" | "url" | "headers">;

/** Of one reactor. */
class End implements ReactorEnd {
  readonly link: Link;
  readonly pieceBytes: number;
  readonly windowBytes: number;
  readonly #bySlot: (LinkExchange | undefined)[] = [];
  /** By their text. */
  readonly #heads = new Map<string, Head>();
  readonly #waiting = new Set<LinkExchange>();

  constructor(link: Link, ringBytes: number) {
    this.link = link;
    this.pieceBytes = pieceBytes(ringBytes);
    this.windowBytes = windowBytes(ringBytes);
  }

  begin(record: RecordReader): LinkExchange | null {
    const { slot, life, body, ...texts } = readRequest(record);
    const known = this.#headOf(texts);
    // A header with a line break in it would be taken for two.
    if (known === null) {
      writeEnd(this.link, kinds.apiDrop, { slot, life });
      return null;
    }
    const exchange = new LinkExchange({ slot, life, ...known, body: body && Buffer.from(body) }, this);
    this.#bySlot[slot] = exchange;
    return exchange;
  }

  #headOf({ head, own }: RequestHead): Head | null {
    const before = own === "" ? this.#heads.get(head) : undefined;
    if (before !== undefined) return before;
    const lines = readLines({ head, own });
    if (lines === null) return null;
    const { values, ...rest } = lines;
    const read = { ...rest, headers: headersOf(values) };
    // A query may hold a token.
    if (own !== "" || head.length > headCharsMax || rest.url.includes("?")) return read;
    if (this.#heads.size >= headsMax) this.#heads.clear();
    this.#heads.set(head, read);
    return read;
  }

  find({ slot, life }: RequestId): LinkExchange | undefined {
    const exchange = this.#bySlot[slot];
    return exchange?.life === life ? exchange : undefined;
  }

  wait(exchange: LinkExchange): void {
    this.#waiting.add(exchange);
  }

  free(exchange: LinkExchange): void {
    this.#waiting.delete(exchange);
    if (this.#bySlot[exchange.slot] === exchange) this.#bySlot[exchange.slot] = undefined;
  }

  goOn(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const exchange of waiting) exchange.goOn();
  }

  close(): void {
    for (const exchange of this.#bySlot) exchange?.gone();
  }
}

/** Of one shape for all requests. */
function headersOf([host, authorization, type, origin, site, length, key, id, last]: readonly string[]): Record<string, string | undefined> {
  return {
    host: host || undefined, authorization: authorization || undefined, "content-type": type || undefined, "content-length": length || undefined, origin: origin || undefined,
    "sec-fetch-site": site || undefined, "idempotency-key": key || undefined, "x-request-id": id || undefined, "last-event-id": last || undefined,
  };
}
