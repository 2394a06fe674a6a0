/** The operations of the archive in PostgreSQL. */
import type { ArchiveOperations, StreamStatus } from "../operations.ts";
import { openPool, textFor } from "../../postgres/connection.ts";
import { lasting } from "../../postgres/errors.ts";
import { microseconds } from "../../postgres/times.ts";
import { migrate, schemaVersion } from "./migrations.ts";

const statementMs = 3_600_000;

/** @param gateway as the nodes name it. Each call rejects with PostgresProblem for what stays until an operator acts. */
export function openArchiveOperations(url: string, gateway: string): ArchiveOperations {
  const pool = openPool({ url, name: "flux-gateway archive", connectionsMax: 1, statementMs });
  const explained = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw lasting(error) ?? error;
    }
  };
  const days = async () => {
    const { rows } = await pool.query("SELECT relname, pg_total_relation_size(inhrelid) AS bytes FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'flux_publications'::regclass ORDER BY relname");
    return rows.map(({ relname, bytes }) => ({ name: String(relname), bytes: Number(bytes) }));
  };
  return {
    status: () => explained(async () => {
      const { rows: [archive] } = await pool.query("SELECT version, gateway FROM flux_archive");
      const { rows } = await pool.query(
        `SELECT stream, epoch, seq, ${microseconds("at")} AS at, CASE WHEN leased_until > now() THEN holder END AS holder,
           (SELECT count(*) FROM flux_epochs e WHERE e.stream = s.stream) AS epochs, (SELECT count(*) FROM flux_gaps g WHERE g.stream = s.stream OR starts_with(g.stream, s.stream || '/')) AS gaps
         FROM flux_streams s ORDER BY stream`,
      );
      const streams = rows.map(({ stream, epoch, seq, at, holder, epochs, gaps }): StreamStatus => {
        // A holder is the name of a node and a word for this start of it.
        const node = typeof holder === "string" ? holder.split(" ")[0]! : null;
        return { stream: String(stream), epoch: String(epoch), seq: Number(seq), archivedAt: at === null ? null : Math.floor(Number(at) / 1000), node, epochs: Number(epochs), gaps: Number(gaps) };
      });
      const partitions = await days();
      const firstDay = /(\d{4})(\d{2})(\d{2})$/.exec(partitions[0]?.name ?? "")?.slice(1).join("-") ?? null;
      return { version: Number(archive?.version), gateway: String(archive?.gateway), streams, days: partitions.length, firstDay, bytes: partitions.reduce((sum, { bytes }) => sum + bytes, 0) };
    }),
    migrate: () => explained(async () => ({ before: await migrate(pool, gateway), now: schemaVersion })),
    erase: (tenant, user) => explained(async () => {
      let erased = 0;
      for (const { name } of await days()) {
        const { rowCount } = await pool.query(`DELETE FROM "${name}" WHERE tenant = $1 AND sender = $2`, [textFor(tenant), textFor(user)]);
        erased += rowCount ?? 0;
      }
      return erased;
    }),
    stop: () => pool.end(),
  };
}
