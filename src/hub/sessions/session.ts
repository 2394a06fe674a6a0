/** A session, as the hub knows it. */
import type { JoinRecord } from "../../link/records.ts";
import type { AttachedReactor } from "../rooms.ts";
import type { Places } from "./places.ts";

/** A session that has a socket on this node. Each socket of a session has a record of its own. */
export interface HubSession {
  id: string;
  /** Unlike the id, it belongs to this socket alone. */
  readonly socketId: string;
  /** Holds the names of the user and the tenant. */
  readonly userKey: string;
  readonly device: string;
  /** Of its token, milliseconds since 1970. */
  readonly issuedAt: number;
  /** By the clock of `performance.now()`, in whole milliseconds: V8 stores any other number as a separate object. */
  readonly cameAt: number;
  /** The reactor that has its socket, its slot there, and the slot's life. */
  readonly reactor: AttachedReactor;
  readonly slot: number;
  readonly life: number;
  readonly wire: number;
  rooms: Places;
  /** Joins that came with hello, while it is not answered. The reactor bounds their number. */
  ahead: readonly JoinRecord[];
  /** Rooms into which the application has joined the user, whether or not the session is in them. Never changed in place. */
  assigned: ReadonlySet<string>;
  /** Higher than that of every socket that had the session before. */
  generation: number;
  /**
   * arriving: the store is being asked. gone: replaced or closed; its socket's last records are still to come. over:
   * the client said bye before the store answered, so the session it asked for ends.
   */
  state: "arriving" | "here" | "gone" | "over";
}
