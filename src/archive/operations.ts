/** What an operator asks of the archive: how it stands, that its tables are up to date, that a user is erased. */

export interface StreamStatus {
  readonly stream: string;
  readonly epoch: string;
  readonly seq: number;
  /** When the stream stored the newest archived publication, in milliseconds since 1970; null: none is archived. */
  readonly archivedAt: number | null;
  /** The node that archives it; null: none does. */
  readonly node: string | null;
  /** Epochs of the stream, and gaps in it. */
  readonly epochs: number;
  readonly gaps: number;
}

export interface ArchiveStatus {
  readonly version: number;
  readonly gateway: string;
  readonly streams: readonly StreamStatus[];
  readonly days: number;
  /** First day, as 2026-11-29; null: there is none. */
  readonly firstDay: string | null;
  readonly bytes: number;
}

export interface ArchiveOperations {
  status(): Promise<ArchiveStatus>;
  /** @returns the version before, 0 for none, and the version now */
  migrate(): Promise<{ readonly before: number; readonly now: number }>;
  /** Deletes what a user published. Each day is a transaction of its own. @returns publications deleted */
  erase(tenant: string, user: string): Promise<number>;
  stop(): Promise<void>;
}
