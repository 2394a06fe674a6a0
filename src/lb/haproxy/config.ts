/**
 * Haproxy's configuration and its maps: the same choice of a node as the load balancer's own. Every line was tried with
 * haproxy 2.6. An expression with a further converter inside `use-server %[…]` silently chooses nothing, so the server's
 * name is computed into a variable. `url_dec` without its argument leaves a plus sign as it is.
 */
import { isIPv6 } from "node:net";
import { placeTag } from "../../auth/placetickets.ts";
import type { Config } from "../../config/config.ts";
import type { Slot } from "./slots.ts";

export const backend = "flux";

export interface Placed {
  readonly slots: readonly Slot[];
  /** Id of the owner of each partition; empty: there are none. */
  readonly owners: readonly string[];
}

/** What a file is, by its name in the folder. */
export interface HaproxyFiles {
  readonly "haproxy.cfg": string;
  /** Partition → server. */
  readonly "owners.map": string;
  /** Node → server. */
  readonly "nodes.map": string;
  /** Node, as tickets name it → server. */
  readonly "tickets.map": string;
}

export const mapNames = ["owners.map", "nodes.map", "tickets.map"] as const;

type Given = Pick<Config, "connectionsMax" | "dialMs" | "firstBytesMs" | "host" | "policy" | "port" | "readyCheckMs" | "tlsCert">;

export function haproxyFiles(config: Given, folder: string, { slots, owners }: Placed): HaproxyFiles {
  const nameOf = new Map(slots.flatMap(({ name, node }) => (node === null ? [] : [[node.id, name] as const])));
  const used = slots.flatMap(({ name, node }) => (node === null ? [] : [{ name, id: node.id }]));
  return {
    "haproxy.cfg": configuration(config, folder, slots, owners.length),
    "owners.map": lines(owners.flatMap((id, partition) => (nameOf.has(id) ? [`${partition} ${nameOf.get(id)}`] : []))),
    "nodes.map": lines(used.map(({ id, name }) => `${id} ${name}`)),
    "tickets.map": lines(used.map(({ id, name }) => `${placeTag(id).toString(16).toUpperCase().padStart(8, "0")} ${name}`)),
  };
}

/** Longer than the heartbeat of the nodes, 35 s by default. */
const idle = "75s";

function configuration({ host, port, policy, tlsCert, firstBytesMs, dialMs, readyCheckMs, connectionsMax }: Given, folder: string, slots: readonly Slot[], partitions: number): string {
  const tls = tlsCert === "" ? "" : ` ssl crt ${quoted(tlsCert)}`;
  const rules = policy === "hash" && partitions > 0 ? hashRules(folder, firstBytesMs, partitions) : [];
  const useServer = rules.length === 0 ? [] : ["use-server %[var(sess.flux_server)] if { var(sess.flux_server) -m found }"];
  return lines([
    "# Written by flux-gateway lb --emit haproxy, for haproxy 2.6 and later. --watch haproxy keeps it up to date.",
    "global",
    ...indented([`maxconn ${connectionsMax}`, `stats socket ${quoted(`${folder}/haproxy.sock`)} mode 600 level admin expose-fd listeners`]),
    "",
    "defaults",
    ...indented([
      "mode tcp",
      "option clitcpka",
      `timeout connect ${dialMs}ms`,
      `timeout check ${dialMs}ms`,
      "# A WebSocket is quiet for as long as the heartbeat of the nodes allows.",
      `timeout client ${idle}`,
      `timeout server ${idle}`,
      "# The next node is tried where one does not accept.",
      "retries 2",
      "option redispatch 1",
    ]),
    "",
    "frontend flux",
    ...indented([`bind ${isIPv6(host) ? `[${host}]` : host}:${port}${tls}`, ...rules, `default_backend ${backend}`]),
    "",
    `backend ${backend}`,
    ...indented([
      ...balance(policy),
      ...useServer,
      "option httpchk",
      "http-check send meth GET uri /ready ver HTTP/1.1 hdr Host node hdr Connection close",
      "http-check expect status 200",
      `default-server check inter ${readyCheckMs}ms fall 2 rise 1`,
      ...slots.map(({ name, node }) => (node === null ? `server ${name} 127.0.0.1:1 disabled` : `server ${name} ${address(node.host, node.port)}${node.state === "up" ? "" : " disabled"}`)),
    ]),
  ]);
}

/** node=, then the node of the ticket, then the user: in the URL, in the ticket, in a token. */
function hashRules(folder: string, firstBytesMs: number, partitions: number): string[] {
  const map = (name: (typeof mapNames)[number]) => `map(${folder}/${name})`;
  const unless = "if HTTP !{ var(sess.flux_server) -m found }";
  const set = (value: string, when: string) => `tcp-request content set-var(sess.flux_server) ${value} ${when}`;
  const owner = `mod(${partitions}),${map("owners.map")}`;
  // A tenant and U+001F stand before the user, where there is a tenant.
  const keyed = (user: string, tenant: string) => [
    `tcp-request content set-var(sess.flux_user) ${user} ${unless}`,
    `tcp-request content set-var(sess.flux_tenant) ${tenant} ${unless}`,
    set(`var(sess.flux_tenant),concat(\\x1f,sess.flux_user),xxh32(0),${owner}`, `${unless} { var(sess.flux_user) -m len gt 0 } { var(sess.flux_tenant) -m len gt 0 }`),
    set(`var(sess.flux_user),xxh32(0),${owner}`, `${unless} { var(sess.flux_user) -m len gt 0 } !{ var(sess.flux_tenant) -m len gt 0 }`),
  ];
  const bearer = "req.hdr(authorization),regsub(^[Bb]earer[[:space:]]+,)";
  return [
    `tcp-request inspect-delay ${firstBytesMs}ms`,
    set(`url_param(node),url_dec(1),${map("nodes.map")}`, "if HTTP"),
    set(`url_param(ticket),ub64dec,bytes(8,4),hex,${map("tickets.map")}`, unless),
    ...keyed("url_param(user),url_dec(1)", "url_param(tenant),url_dec(1)"),
    set(`url_param(ticket),ub64dec,bytes(12,4),hex,hex2i,${owner}`, unless),
    ...keyed("url_param(token),jwt_payload_query('$.sub')", "url_param(token),jwt_payload_query('$.tenant')"),
    ...keyed(`${bearer},jwt_payload_query('$.sub')`, `${bearer},jwt_payload_query('$.tenant')`),
    "tcp-request content accept if HTTP",
  ];
}

/** Users that no rule knows go by their address. */
function balance(policy: Given["policy"]): string[] {
  switch (policy) {
    case "hash":
      return ["balance source", "hash-type consistent"];
    case "round-robin":
      return ["balance roundrobin"];
    case "least-connections":
      return ["balance leastconn"];
    case "least-load":
      return ["# Haproxy does not know the load of a node: of two random ones the one with fewer connections.", "balance random(2)"];
  }
}

export function address(host: string, port: number): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

function quoted(text: string): string {
  return /^[\w./:-]+$/.test(text) ? text : `"${text.replace(/["\\$]/g, "\\$&")}"`;
}

function indented(texts: readonly string[]): string[] {
  return texts.map((text) => `  ${text}`);
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}
