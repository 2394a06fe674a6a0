/**
 * What every implementation of a seam must do, as tests of node-tap: who writes a broker of their own runs the suite over
 * it. Each clause is a MUST of the seam's interface.
 */
export { brokerBytesContract, brokerContract, brokerTimeContract, type BrokerOptions, type MakeBroker } from "./broker.ts";
export { messagesContract, type Speaking } from "./messages.ts";
export { presenceContract, type MakePresence, type PresenceOptions } from "./presence.ts";
export { registryContract, type Joining, type RegistryOptions } from "./registry.ts";
export { sessionsContract, sharedSessionsContract, type MakeSessions, type SessionsOptions, type SharedSessions, type ShareSessions } from "./sessions.ts";
