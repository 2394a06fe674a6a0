/**
 * The stable name of each event in the log: the field `event` of a line. Texts are for people and may change; names stay. A text
 * is found by how it begins; `*` stands for what differs from line to line. test/log-events.test.ts checks that each call of
 * the log in src has exactly one name. A line that gives `event` itself keeps it.
 */

/** By name: the beginnings of the texts. */
export const events: Readonly<Record<string, readonly string[]>> = {
  // Start and end
  running: ["flux-gateway is running", "flux-gateway lb is running", "flux-gateway lb watches the nodes for haproxy"],
  closing: ["*: closing; a second signal", "*: taking no more clients;", "*: stopped before the node was running"],
  closed: ["closed"],
  crashed: ["uncaught error: ", "the node failed to close in order"],
  drain_begun: ["draining: the node disconnects its sessions", "*: draining within "],
  drain_announcement_failed: ["draining: the announcement to other nodes failed"],
  drain_ended: ["drained"],
  drain_request_invalid: ["drain: a request of another node is invalid"],
  // Configuration
  settings_changed: ["settings: the weight of this node is ", "settings: this node may hold "],
  settings_invalid: ["settings: a change passed on by another node is invalid"],
  option_lowered: ["--sockets-max * is lowered to "],
  option_incomplete: ["--nats without --redis", "--redis without --nats"],
  certificate_reloaded: ["certificate reloaded"],
  certificate_not_reloaded: ["certificate: reload failed", "*; the node keeps the old certificate", "reactor * cannot use the new certificate"],
  certificate_expires: ["--tls-cert: "],
  health_check_slow: ["health check: neither /dev/shm nor "],
  // Threads and memory
  reactor_failed: ["reactor * failed: ", "reactor * crashed", "reactor * exited; ", "reactor * could not be replaced"],
  reactor_lags: ["reactor * lags: "],
  memory_short: ["short of memory: ", "nearly out of memory: "],
  memory_available: ["memory is available again"],
  accept_failed: ["*accepting a connection failed"],
  bug: [
    "hub: handling a record failed", "http api: handling a record failed", "http api: a request failed by a bug", "api: * failed by a bug", "hooks: handling a verdict failed", "hooks: a question failed", "journal: a callback threw",
    "exception while handling an answer of Redis", "NATS: a change of the connection could not be handled", "NATS: the connection is no longer watched", "NATS: a message could not be handled", "NATS: a received message could not be handled",
    "NATS: an opened room could not be continued",
  ],
  // Clients
  hello: ["hello"],
  assignment_failed: ["a session could not be joined into a room of its user"],
  sessions_ended_late: ["sessions were ended by other nodes while "],
  // Admin port and HTTP API
  admin_request_failed: ["admin port: a request failed and "],
  auth_keys_unavailable: ["authJwksUrl: the keys cannot be fetched"],
  auth_keys_available: ["authJwksUrl: the keys can be fetched again"],
  api_keys_changed: ["API keys: the file was read again"],
  api_keys_unreadable: ["API keys: /*the node keeps the ", "*; the node keeps the * keys that it read last", "Redis refuses to give the API keys"],
  api_keys_readable_by_others: ["API keys: every user of this machine may "],
  nats_api_refused: ["NATS API: "],
  // Redis
  redis_unavailable: ["Redis is unavailable: "],
  redis_available: ["Redis is available again"],
  redis_refuses: ["Redis refuses this node: ", "Redis refuses to subscribe", "Redis refuses to publish", "Redis refuses this node's heartbeats", "Redis refused a write of "],
  redis_message_ignored: ["Redis channel: ignored a message"],
  redis_writes_lost: ["writes of "],
  node_messages_dropped: ["messages to other nodes are dropped"],
  node_id_twice: ["node id * is used by another node"],
  resume_secret_differs: ["resume tokens: nodes use different secrets"],
  resume_secret_same: ["resume tokens: nodes use the same secret again"],
  presence_outdated: ["presence entries of a dead node could not be removed", "presence could not be rewritten"],
  // NATS
  nats_unavailable: ["NATS has been unavailable for ", "NATS: the connection is lost", "NATS: the server does not answer"],
  nats_available: ["NATS is back", "NATS: connected again"],
  nats_refuses: ["NATS: a server rejects this node", "NATS: a subscription was rejected", "NATS: the server refuses what leases need", "NATS: the server reports an error", "NATS permissions: ", "NATS max_subscriptions reached"],
  nats_publish_refused: ["NATS storage is full", "NATS max_msg_size exceeded", "NATS max_payload exceeded", "NATS rejects publications", "NATS: max_payload of this server is too low"],
  nats_stream_trouble: ["NATS: a stream cannot be read", "NATS: a stream cannot be checked", "NATS: a stream does not answer the check", "NATS: the streams of a namespace cannot be used", "NATS: subscriptions could not be checked"],
  nats_stream_recovered: ["NATS: all streams "],
  nats_stream_lost: ["NATS: a stream was set back", "NATS: a stream lost what it kept"],
  nats_stream_changed: ["NATS: the stream of namespace ", "NATS: the stream is edited"],
  nats_message_lost: ["NATS: a message cannot be delivered and its room has a gap"],
  inboxes_left: ["NATS: streams hold direct messages from before "],
  // Disk
  disk_write_failed: ["disk write failed", "rewriting the * journal failed", "* could not be written to disk before the exit"],
  disk_write_recovered: ["disk writes succeed again"],
  disk_read_failed: ["disk read failed", "data directory: a file cannot be read"],
  disk_cleaning_failed: ["data directory: cleaning failed", "data directory: a file could not be synced", "data directory: it is full of what is not archived"],
  journal_cut: ["journal: an incomplete last write was cut off"],
  // Archive and outbox
  archive_unavailable: ["archive: PostgreSQL is unavailable", "archive: PostgreSQL cannot be reached", "archive: the history of a room could not be read", "archive: the stream cannot be archived now"],
  archive_available: ["archive: PostgreSQL is available again", "archive: the stream is archived again", "archive: it has caught up"],
  archive_lags: ["archive: it lags by more than half", "archive: what waits for it fills more than half"],
  archive_gap: ["archive: the stream dropped publications", "archive: a message of another program is not archived", "archive: PostgreSQL refuses a publication", "archive: the stream was lost or set back"],
  archive_moved: ["archive: another node archives the stream now"],
  archive_twice: ["archive: another gateway archives its streams here"],
  archive_partitions_failed: ["archive: partitions could not be prepared"],
  outbox_unavailable: ["outbox: PostgreSQL is unavailable", "outbox: PostgreSQL cannot be reached"],
  outbox_available: ["outbox: PostgreSQL is available again"],
  outbox_uncertain: ["outbox: a publication was sent long ago"],
  outbox_refused: ["outbox: a publication can never be published"],
  // Hooks and webhooks
  hook_failed: ["*: the backend gave no verdict: "],
  hook_backend_failing: ["*: the backend fails and is not asked"],
  hook_backend_available: ["*: the backend answers again"],
  webhook_failed: ["webhooks: the endpoint did not take an event"],
  webhook_failing: ["webhooks: the endpoint fails"],
  webhook_available: ["webhooks: the endpoint answers again"],
  webhook_disabled: ["webhooks: the endpoint answered 410", "webhooks: the endpoint is disabled"],
  webhook_events_waiting: ["webhooks: events were not told yet; the next start tells them"],
  webhook_events_lost: ["webhooks: too many events of one room", "webhooks: too many events wait", "webhooks: events were not told yet and are lost"],
  webhook_unreadable: ["webhooks: the events that wait cannot be read"],
  webhook_in_memory: ["webhooks: events wait in this node's memory"],
  // Placement
  table_in_use: ["placement: table * is in use"],
  table_unavailable: ["placement: the table cannot be read or stored", "placement: node * uses placementPartitions ", "placement: too many nodes"],
  partition_held: ["placement: this node delivers for partition "],
  partition_left: ["placement: this node does not deliver for partition ", "placement: *: this node drops all partitions"],
  partition_unowned: ["placement: partitions have no holder"],
  partition_owned: ["placement: every partition has a holder again"],
  lease_twice: ["placement: node * has a lease of another process"],
  // Load balancer
  lb_node_used: ["node * gets connections"],
  lb_node_unused: ["node * gets no more connections", "node * does not accept connections"],
  lb_configuration_reloaded: ["configuration reloaded"],
  lb_configuration_refused: ["*; the load balancer keeps the configuration it has"],
  haproxy_updated: ["haproxy has the new ", "haproxy is up to date again"],
  haproxy_outdated: ["haproxy: not up to date"],
};

/** Of lines that name their event themselves. */
export const ownEvents: Readonly<Record<string, string>> = {
  audit: "An action on the admin port, by the HTTP API or on the dashboard: `audit` has the action, who, from where, what was asked, and the outcome.",
  audit_refused: "A refused request to one of them, at most one a minute for each code: `unsaid` counts the others.",
  client_refused: "A client was refused or disconnected, at most one line a minute for each `reason`: `unsaid` counts the others.",
  trace: "An event of one socket or command, at log level trace.",
};

interface Pattern {
  readonly event: string;
  readonly begins: string;
  readonly rest: RegExp | null;
}

const patterns: readonly Pattern[] = Object.entries(events).flatMap(([event, texts]) => texts.map((text): Pattern => {
  const star = text.indexOf("*");
  if (star < 0) return { event, begins: text, rest: null };
  const parts = text.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return { event, begins: text.slice(0, star), rest: new RegExp(`^${parts.join(".*?")}`, "s") };
}));

/** The most exact one comes first: one with a longer fixed beginning. */
const sorted = [...patterns].sort((a, b) => b.begins.length - a.begins.length);

/** "": the text has no name. */
export function eventOf(text: string): string {
  for (const { event, begins, rest } of sorted) if (text.startsWith(begins) && (rest === null || rest.test(text))) return event;
  return "";
}
