/**
 * Contract tests of the seams, for node-tap. Run a suite over your own implementation, such as a broker. Each test is a
 * MUST of the seam's interface.
 */
export { archiveContract, archivedRow, type ArchivePlace } from "./archive.ts";
export { brokerBytesContract, brokerContract, brokerTimeContract, type BrokerOptions, type MakeBroker } from "./broker.ts";
export { keyStoreContract, type KeyPlace } from "./keystore.ts";
export { partitionQueueContract, recordStoreContract, type MakeQueue, type MakeRecords, type QueuePlace, type RecordPlace } from "./leases.ts";
export { messagesContract, type Speaking } from "./messages.ts";
export { presenceContract, type MakePresence, type PresenceOptions } from "./presence.ts";
export { registryContract, type Joining, type RegistryOptions } from "./registry.ts";
export { sessionsContract, sharedSessionsContract, type MakeSessions, type SessionsOptions, type SharedSessions, type ShareSessions } from "./sessions.ts";
