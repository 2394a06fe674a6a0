/** A reactor's parts together: what its transports and commands work with. */
import type { Context } from "./context.ts";
import type { Heartbeat } from "./heartbeat.ts";
import type { ReturnWindow } from "./returnwindow.ts";
import type { Rooms } from "./rooms.ts";

export interface Reactor extends Context {
  readonly rooms: Rooms;
  readonly heartbeat: Heartbeat;
  readonly returnWindow: ReturnWindow;
}
