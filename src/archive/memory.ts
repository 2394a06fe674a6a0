/** The archive in memory, for tests and for programs that try something out. It ends with the process. */
import type { Position } from "../broker/broker.ts";
import type { Archive, ArchivedRow, Cursor } from "./archive.ts";
import { pageOf, type Epoch, type Found, type Piece } from "./pages.ts";

interface MemoryEpoch extends Epoch {
  completeFrom: number;
  readonly gaps: { readonly from: number; readonly to: number }[];
  rows: ArchivedRow[];
}

interface MemoryStream {
  cursor: Cursor | null;
  holder: string;
  leasedUntil: number;
  readonly epochs: MemoryEpoch[];
}

/** Rows are deleted in days, as where they are partitions. */
const dayMs = 86_400_000;

export function createMemoryArchive(now: () => number = Date.now): Archive {
  const streams = new Map<string, MemoryStream>();
  const streamOf = (name: string): MemoryStream => {
    const known = streams.get(name) ?? { cursor: null, holder: "", leasedUntil: 0, epochs: [] };
    streams.set(name, known);
    return known;
  };
  const isAt = ({ cursor }: MemoryStream, from: Cursor | null) => cursor?.epoch === from?.epoch && cursor?.seq === from?.seq;
  const epochOf = (stream: MemoryStream, epoch: string) => stream.epochs.find((one) => one.epoch === epoch);

  return {
    async take(names, holder, leaseMs, max) {
      let taken = 0;
      return names.flatMap((name) => {
        const stream = streamOf(name);
        const isOwn = stream.holder === holder;
        if (!isOwn && (stream.leasedUntil > now() || ++taken > max)) return [];
        stream.holder = holder;
        stream.leasedUntil = now() + leaseMs;
        return [{ stream: name, cursor: stream.cursor }];
      });
    },

    async epochs(names) {
      return new Map(names.map((name) => [name, streams.get(name)?.cursor?.epoch ?? ""]));
    },

    async release(names, holder) {
      for (const name of names) {
        const stream = streamOf(name);
        if (stream.holder === holder) Object.assign(stream, { holder: "", leasedUntil: 0 });
      }
    },

    async begin(name, from, to, lost) {
      const stream = streamOf(name);
      if (!isAt(stream, from)) return null;
      if (lost !== null) epochOf(stream, lost.epoch)?.gaps.push({ from: lost.from, to: lost.to ?? Infinity });
      const known = epochOf(stream, to.epoch);
      if (known === undefined) stream.epochs.push({ epoch: to.epoch, completeFrom: to.completeFrom, gaps: [], rows: [] });
      const newest = known?.rows.at(-1);
      const goesOn = newest !== undefined && newest.seq >= to.seq;
      return (stream.cursor = { ...to, completeFrom: known?.completeFrom ?? to.completeFrom, ...(goesOn && { seq: newest.seq, at: newest.at }) });
    },

    async append(name, from, to, rows, gaps, begun = []) {
      const stream = streamOf(name);
      const epoch = epochOf(stream, from.epoch);
      if (!isAt(stream, from) || epoch === undefined) return false;
      for (const { stream, epoch, completeFrom } of begun) {
        const known = epochOf(streamOf(stream), epoch);
        if (known === undefined) streamOf(stream).epochs.push({ epoch, completeFrom, gaps: [], rows: [] });
        else known.completeFrom = Math.max(known.completeFrom, completeFrom);
      }
      const at = (of: { readonly stream: string; readonly epoch: string } | undefined) => (of === undefined ? epoch : epochOf(streamOf(of.stream), of.epoch)!);
      for (const { of, ...row } of rows) {
        const stored = at(of).rows;
        if (stored.some(({ seq }) => seq === row.seq)) continue;
        stored.push({ ...row, payload: Uint8Array.prototype.slice.call(row.payload) });
        stored.sort((a, b) => a.seq - b.seq);
      }
      for (const { stream: of, epoch: missing, from, to } of gaps) at(of === undefined ? undefined : { stream: of, epoch: missing }).gaps.push({ from, to: to ?? Infinity });
      stream.cursor = { ...to, completeFrom: epoch.completeFrom };
      return true;
    },

    async ends(names) {
      return new Map(names.flatMap((name) => {
        const end = endOf(streams.get(name)?.epochs.at(-1));
        return end === null ? [] : [[name, end] as const];
      }));
    },

    async rowBefore(name, epoch, seq) {
      const row = epochOf(streamOf(name), epoch)?.rows.findLast((one) => one.seq <= seq);
      return row === undefined ? null : { seq: row.seq, at: row.at };
    },

    async history(query) {
      const { cursor, epochs } = streamOf(query.stream);
      const ofRoom = (epoch: string) => (epochs.find((one) => one.epoch === epoch)?.rows ?? []).filter(({ tenant, room }) => tenant === query.tenant && room === query.room);
      const rows = async (epoch: string, seq: number, isForward: boolean, limit: number, bytesMax: number): Promise<Piece> => {
        const all = ofRoom(epoch);
        const listed = isForward ? all.filter((row) => row.seq > seq) : all.filter((row) => row.seq < seq).reverse();
        let bytes = 0;
        const taken = listed.slice(0, limit).filter(({ payload }, i) => ((bytes += payload.length + (query.bytesEach ?? 0)) <= bytesMax) || i === 0);
        return { rows: taken.map((row): Found => ({ epoch, seq: row.seq, sender: row.sender, time: row.time, format: row.format, payload: row.payload, key: row.key })), beyond: listed[taken.length]?.seq ?? null };
      };
      const known = { epochs, cursor: cursor ?? { epoch: "", seq: 0, at: 0, completeFrom: 0, ...endOf(epochs.at(-1)) } };
      return pageOf(query, known, rows, async (epoch, seq) => ofRoom(epoch).some((row) => row.seq === seq));
    },

    async tidy(at, keepMs) {
      if (keepMs === 0) return;
      const before = Math.floor((Math.min(at, now()) - keepMs) / dayMs) * dayMs * 1000;
      for (const { epochs } of streams.values()) {
        for (const epoch of epochs) {
          const oldest = epoch.rows.findIndex((row) => row.at >= before);
          const gone = epoch.rows.splice(0, oldest < 0 ? epoch.rows.length : oldest);
          epoch.completeFrom = Math.max(epoch.completeFrom, (gone.at(-1)?.seq ?? 0) + 1);
        }
      }
    },

    async stop() {
      streams.clear();
    },
  };
}

/** How far a room of a journal is archived. */
function endOf(epoch: MemoryEpoch | undefined): Position | null {
  if (epoch === undefined) return null;
  const missing = epoch.gaps.map(({ to }) => to).filter((to) => to !== Infinity);
  return { epoch: epoch.epoch, seq: Math.max(epoch.completeFrom - 1, epoch.rows.at(-1)?.seq ?? 0, ...missing) };
}
