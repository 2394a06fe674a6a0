/** Writes haproxy's files, and keeps them and a running haproxy like the nodes: `lb --emit haproxy`, `lb --watch haproxy`. */
import { lookup } from "node:dns/promises";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { ConfigError, type Config } from "../../config/config.ts";
import type { Logger } from "../../platform/log/log.ts";
import { repeated } from "../../platform/repeated.ts";
import { openMembers, type Members } from "../members.ts";
import { Nodes, type ListedNode } from "../nodes.ts";
import { address, backend, haproxyFiles, mapNames, type HaproxyFiles, type Placed } from "./config.ts";
import { confirmed, pidOf, replaceMap } from "./socket.ts";
import { Slots, type Slot } from "./slots.ts";

export interface HaproxyOptions {
  readonly folder: string;
  /** Servers in haproxy's configuration; 0 for a number that leaves room. */
  readonly slots: number;
}

export interface Watching {
  /** Looks now. Never rejects. */
  look(): Promise<void>;
  close(): Promise<void>;
}

const lookMs = 1_000;

/** Writes the files once. @throws ConfigError */
export async function emitHaproxy(config: Config, log: Logger, options: HaproxyOptions): Promise<string> {
  const members = await openMembers(config, log);
  try {
    const nodes = await resolved(members.nodes());
    if (nodes.length === 0) throw new ConfigError(["--emit haproxy: no node is known; start the nodes first"]);
    const folder = resolve(options.folder);
    writeFiles(folder, haproxyFiles(config, folder, placed(config, members, new Slots(options.slots), nodes)));
    return folder;
  } finally {
    await members.stop();
  }
}

/** @throws ConfigError */
export async function watchHaproxy(config: Config, log: Logger, options: HaproxyOptions): Promise<Watching> {
  const members = await openMembers(config, log);
  const watch = new HaproxyWatch(config, log, members, options);
  members.onChange(() => void watch.look());
  await watch.look();
  const timer = setInterval(() => void watch.look(), lookMs);
  return {
    look: () => watch.look(),
    close: async () => {
      clearInterval(timer);
      await members.stop();
    },
  };
}

class HaproxyWatch {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #members: Members;
  readonly #folder: string;
  readonly #slots: Slots;
  #written = "";
  /** What the running haproxy has: its process, its maps and the state of its servers. */
  #applied: { pid: string; maps: Partial<HaproxyFiles>; servers: Map<string, string> } = { pid: "", maps: {}, servers: new Map() };
  readonly #looks = repeated(() => this.#lookOnce());
  #problem = "";

  constructor(config: Config, log: Logger, members: Members, { folder, slots }: HaproxyOptions) {
    this.#config = config;
    this.#log = log;
    this.#members = members;
    this.#folder = resolve(folder);
    this.#slots = new Slots(slots);
  }

  look(): Promise<void> {
    return this.#looks.run();
  }

  async #lookOnce(): Promise<void> {
    try {
      const nodes = await resolved(this.#members.nodes());
      // An empty list is no reason to leave haproxy without servers.
      if (nodes.length === 0) return;
      const state = placed(this.#config, this.#members, this.#slots, nodes);
      const left = nodes.filter(({ id }) => !state.slots.some(({ node }) => node?.id === id));
      const files = haproxyFiles(this.#config, this.#folder, state);
      // The files first: a haproxy that starts or reloads meanwhile reads what is right.
      if (JSON.stringify(files) !== this.#written) writeFiles(this.#folder, files);
      this.#written = JSON.stringify(files);
      await this.#apply(files, state.slots);
      this.#say(left.length === 0 ? "" : `no slot is left for ${left.map(({ id }) => id).join(", ")}: write the configuration again with more --slots, and reload haproxy`);
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  async #apply(files: HaproxyFiles, slots: readonly Slot[]): Promise<void> {
    const socket = join(this.#folder, "haproxy.sock");
    const pid = await pidOf(socket);
    if (pid !== this.#applied.pid) this.#applied = { pid, maps: {}, servers: new Map() };
    const { servers } = this.#applied;
    // Servers of nodes before the maps that name them.
    for (const slot of slots) {
      const wanted = stateOf(slot);
      if (servers.get(slot.name) === wanted) continue;
      await setServer(socket, slot);
      servers.set(slot.name, wanted);
    }
    if (this.#config.policy !== "hash") return;
    for (const name of mapNames) {
      if (this.#applied.maps[name] === files[name]) continue;
      await replaceMap(socket, join(this.#folder, name), files[name]);
      this.#applied.maps = { ...this.#applied.maps, [name]: files[name] };
      this.#log.info({ map: name, pid }, `haproxy has the new ${name}`);
    }
  }

  #say(problem: string): void {
    if (problem !== "" && problem !== this.#problem) this.#log.warn({ problem }, "haproxy: not up to date; the files are, and the command tries again every second");
    if (problem === "" && this.#problem !== "") this.#log.info("haproxy is up to date again");
    this.#problem = problem;
  }
}

/** A draining node gets nothing new: "drain" would still let `use-server` choose it. Its connections stay. */
async function setServer(socket: string, { name, node }: Slot): Promise<void> {
  const server = `${backend}/${name}`;
  if (node === null || node.state !== "up") return confirmed(socket, `set server ${server} state maint`);
  await confirmed(socket, `set server ${server} addr ${node.host} port ${node.port}`);
  await confirmed(socket, `set server ${server} check-port ${node.port}`).catch(() => undefined);
  await confirmed(socket, `set server ${server} state ready`);
}

function stateOf({ node }: Slot): string {
  return node === null ? "" : `${address(node.host, node.port)} ${node.state}`;
}

function placed(config: Config, members: Members, slots: Slots, listed: readonly ListedNode[]): Placed {
  const nodes = new Nodes();
  nodes.update(listed, members.table(), members.partitions());
  const count = config.policy === "hash" ? (nodes.table?.partitions ?? 0) : 0;
  return { slots: slots.assign(listed), owners: Array.from({ length: count }, (_, partition) => nodes.ownerOf(partition)) };
}

/** Haproxy takes addresses over its socket, and no names. */
function resolved(nodes: readonly ListedNode[]): Promise<ListedNode[]> {
  return Promise.all(nodes.map(async (node) => (isIP(node.host) !== 0 ? node : { ...node, host: (await lookup(node.host)).address })));
}

function writeFiles(folder: string, files: HaproxyFiles): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(folder, `.${name}`), text as string);
    renameSync(join(folder, `.${name}`), join(folder, name));
  }
}

