/**
 * The paths of the admin port, as the documentation shows them. test/docs-endpoints.test.ts compares them with the
 * served ones.
 */

export interface Endpoint {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Query or body, as a caller writes it. */
  readonly takes?: string;
  readonly text: string;
  /** Status and body, in words. */
  readonly answers: readonly string[];
}

export const adminEndpoints: readonly Endpoint[] = [
  { method: "GET", path: "/", text: "List of the paths of this port.", answers: ['200 `{"name":"flux-gateway admin","paths":[…]}`'] },
  { method: "GET", path: "/dashboard", text: "The dashboard, a page for people. `/` leads a browser there. The page asks for the admin key, or for an API key of scope admin.", answers: ["200 HTML"] },
  { method: "GET", path: "/metrics", text: "Metrics in the text format of Prometheus. `metricsPort` serves this path without a key.", answers: ["200 text"] },
  {
    method: "GET", path: "/slow", text: "Sessions with the longest socket queues: at most 20, each with at most ten rooms.", answers: ['200 `{"sessions":[…]}`'],
  },
  { method: "GET", path: "/nodes", text: "Nodes of the gateway as this node knows them. `stale` is true while Redis is unavailable.", answers: ['200 `{"node":"a","stale":false,"nodes":[…]}`'] },
  {
    method: "GET", path: "/survey", takes: "`?kind=health`, `?kind=user&user=ann&tenant=acme`, `?kind=room&room=chat:general&tenant=acme`",
    text: "One question to all nodes. `unanswered` names the nodes that did not answer in time.",
    answers: ['200 `{"sessions":2,"answers":[…],"unanswered":[]}`, with `members` for a room', "400 `bad_request`"],
  },
  {
    method: "GET", path: "/placement", takes: "nothing, `?user=ann&tenant=acme`, or `?plan=+gateway-4,-gateway-2,gateway-1=2`",
    text: "The table of owners (`--placement hash` or `partition`; with the latter, `held` says who holds each partition). With `user`, the node that a user belongs on, why, and where the user's sessions are. With `plan`, what would move if nodes joined, left or had another weight.",
    answers: ['200 `{"placement":"hash","partitions":1024,"table":{"number":7,…},"members":[…],"moves":{…}}`', '200 with `owner`, `why`, `partition`, `sessions`', '200 `{"moved":268,"partitions":1024,"between":9,"nodes":[…]}`', "400 `bad_request`"],
  },
  { method: "GET", path: "/settings", text: "Settings of this node that can be changed while it runs.", answers: ['200 `{"node":"a","weight":1,"maxPartitions":0}`'] },
  {
    method: "POST", path: "/settings", takes: '`{"node":"b","weight":2,"maxPartitions":20}`; one of the settings is enough, and `node` is optional',
    text: "Changes settings of this node, or of `node`, until that node exits: its next start reads its options again. `weight` is a whole number from 0 to 16, as `--weight`; `maxPartitions` one from 0 to 16384, as `--max-partitions`.",
    answers: ['200 `{"node":"b","weight":2,"maxPartitions":20}`, as the node has it', "400 `bad_request`", "404 `not_found`: no such node, or it is down", "503 `unavailable`: Redis is unavailable, or the node did not answer within 6 s"],
  },
  {
    method: "GET", path: "/webhooks", takes: "nothing, or `?max=100`", text: "Endpoints of webhooks, with their dead letters: the oldest, at most `max` of each; and the events that wait on this node, with their bounds and what was refused at them.",
    answers: ['200 `{"endpoints":[{"endpoint":"main","isDisabled":false,"count":0,"letters":[]}],"queue":{"events":0,"eventsMax":1000000,"bytes":0,"bytesMax":134217728,"refused":{"events":0,"bytes":0}}}`', "404 `not_found`: no webhook is configured"],
  },
  {
    method: "POST", path: "/webhooks", takes: '`{"endpoint":"main","max":100}`; only `endpoint` is required',
    text: "Sends dead letters to their endpoint once more, the oldest first, until one fails. Those that it takes are deleted.",
    answers: ['200 `{"endpoint":"main","told":3,"left":0,"problem":""}`', "404 `not_found`: no such endpoint"],
  },
  {
    method: "POST", path: "/disconnect", takes: '`{"user":"ann","tenant":"acme","signOut":true}`; only `user` is required',
    text: "Closes all sessions of a user on every node (3504). With `signOut`, tokens issued until now are rejected as well.",
    answers: ["200, as `/survey?kind=user`", "400 `bad_request`"],
  },
  { method: "GET", path: "/drain", text: "Progress of the drain of this node.", answers: ['200 `{"state":"serving","sessions":0,"left":0,"windowMs":0,"elapsedMs":0}`; `state` is `serving`, `draining` or `over`'] },
  {
    method: "POST", path: "/drain", takes: '`{"windowMs":30000,"url":"wss://…","node":"b"}`; every field is optional',
    text: "Begins a drain of this node, or of `node`, or joins the drain that is under way. The process exits when no session is left.",
    answers: ["200, a line of JSON every half second as `GET /drain` answers", "404 `not_found`: no such node", "503 `unavailable`: Redis is unavailable, so another node cannot be reached"],
  },
];

/** Refusals that any request may get. */
export const adminRefusals: readonly (readonly [status: string, code: string, when: string])[] = [
  ["400", "bad_request", "A field is missing, malformed or unknown, or the body is not valid JSON."],
  ["401", "unauthorized", "The port has a key (`adminKey`) and the request does not show it: `Authorization: Bearer KEY`."],
  ["403", "forbidden", "A web page sent the request, or the `Host` is not a loopback name on a port without a key."],
  ["404", "not_found", "The path does not exist."],
  ["405", "method_not_allowed", "The path has another method: see the header `Allow`."],
  ["413", "too_large", "The body is longer than 4,096 bytes."],
  ["415", "bad_request", "A POST without `Content-Type: application/json`."],
  ["500", "internal", "The node failed. Its log says why."],
  ["503", "unavailable", "Redis is unavailable, and the request needs it."],
];
