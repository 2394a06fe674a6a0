/** The generated messages of proto/flux.proto under the names the rest of the code uses. */
import { flux } from "./generated/flux.js";

export const { ClientFrame, ServerFrame, Publication, Joined, Replay, HistoryPage, Format } = flux.v1;

export type ClientFrame = flux.v1.ClientFrame.$Properties;
export type ServerFrame = flux.v1.ServerFrame.$Properties;
export type CommandKind = NonNullable<flux.v1.ClientFrame["command"]>;
export type EventKind = NonNullable<flux.v1.ServerFrame["event"]>;
export type Position = flux.v1.Position.$Properties;
export type Publication = flux.v1.Publication.$Properties;
export type Ready = flux.v1.Ready.$Properties;
export type PresencePage = flux.v1.PresencePage.$Properties;
export type PresenceChanged = flux.v1.PresenceChanged.$Properties;
export type UserStatus = flux.v1.UserStatus.$Properties;
export type Refreshed = flux.v1.Refreshed.$Properties;
export type Resume = flux.v1.Resume.$Properties;
export type Joined = flux.v1.Joined.$Properties;
export type Published = flux.v1.Published.$Properties;
export type HistoryPage = flux.v1.HistoryPage.$Properties;
export type Replay = flux.v1.Replay.$Properties;
export type ErrorReply = flux.v1.Error.$Properties;

export { protocolVersion, subprotocols } from "./constants.ts";

// An absent 64-bit field reads as its type's default, which protobufjs makes a Long when `long` is installed. Our
// 64-bit fields are plain numbers (codec.ts), so the defaults are too.
for (const type of Object.values(flux.v1)) {
  const defaults = (type as { prototype?: object }).prototype ?? {};
  for (const [field, value] of Object.entries(defaults)) {
    if (typeof value === "object" && value !== null && "unsigned" in value) Object.assign(defaults, { [field]: 0 });
  }
}
