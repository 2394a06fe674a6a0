/** A reactor's parts together: what its transports and commands work with. */
import type { Context } from "./context.ts";
import type { Heartbeat } from "./session/heartbeat.ts";
import type { Moves } from "./session/moves.ts";
import type { ReturnWindow } from "./session/returnwindow.ts";
import type { ReactorRooms } from "./rooms/rooms.ts";

export interface Reactor extends Context {
  readonly rooms: ReactorRooms;
  readonly heartbeat: Heartbeat;
  readonly returnWindow: ReturnWindow;
  readonly moves: Moves;
}
