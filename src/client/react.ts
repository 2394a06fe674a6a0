/**
 * Hooks for React 18 and 19:
 *
 *   <FluxProvider connect={() => connect("wss://gateway.example/ws")}>…</FluxProvider>
 *   const { publications, publish } = useRoom("chat:general");
 *   const { members } = usePresence("chat:general");
 */
export { FluxProvider, useClient } from "./react/provider.ts";
export type { FluxProviderProps } from "./react/provider.ts";
export { usePresence, useRoom } from "./react/rooms.ts";
export type { PresenceView, RoomHandle, RoomOptions, RoomView } from "./react/rooms.ts";
export { useConnectionState, useStatus } from "./react/connection.ts";
export type { Statuses } from "./react/connection.ts";
