/** A reactor's parts together: what its transports and commands work with. */
import type { Context } from "./context.ts";
import type { ReactorHooks } from "./hooks/hooks.ts";
import type { Heartbeat } from "./session/heartbeat.ts";
import type { ReturnWindow } from "./session/returnwindow.ts";
import type { ReactorRooms } from "./rooms/rooms.ts";
import type { Session } from "./session/session.ts";

export interface Reactor extends Context {
  readonly rooms: ReactorRooms;
  readonly heartbeat: Heartbeat;
  readonly returnWindow: ReturnWindow;
  /** Null where no hook is configured. */
  readonly hooks: ReactorHooks | null;
  /** Hellos that came before this node holds their partition (session/earlyhellos.ts). */
  readonly early: { hold(session: Session, partition: number, serve: () => void): void };
  /** What sessions tell those that move them to other nodes (session/moves.ts). */
  readonly moves: {
    /** The client was sent on as often as it may be, and stays until the table changes. */
    strand(session: Session): void;
    /** A session became ready. Its user's owner may have changed since its hello. */
    arrived(session: Session): void;
  };
}
