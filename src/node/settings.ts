/** The settings of this node that operators change while it runs, and how a change reaches another node. */
import type { Settings } from "../admin/settings.ts";
import type { Config } from "../config/config.ts";
import type { NodeMessage } from "../messages/messages.ts";
import { settingsShape, type NodeSettings, type SettingsChange } from "../placement/settings.ts";
import type { Node } from "./parts.ts";

/** Messages are delivered at most once, so the node is told again while it does not answer. The result is the same. */
const asksMax = 3;

export class RunningSettings implements Settings {
  readonly #node: Pick<Node, "setup" | "others" | "redis" | "surveys" | "placement" | "partitions">;
  readonly #id: string;
  #current: NodeSettings;

  constructor(node: Pick<Node, "setup" | "others" | "redis" | "surveys" | "placement" | "partitions">) {
    const { nodeId, weight, maxPartitions }: Config = node.setup.config;
    this.#node = node;
    this.#id = nodeId;
    this.#current = { weight, maxPartitions };
  }

  get own(): NodeSettings & { readonly node: string } {
    return { node: this.#id, ...this.#current };
  }

  async change(id: string, change: SettingsChange): ReturnType<Settings["change"]> {
    const { others, redis, surveys } = this.#node;
    if (id === this.#id) return this.#apply(change);
    if (redis !== null && !redis.up) return "unavailable";
    const known = others.nodes().find((one) => one.id === id && one.state !== "down");
    if (known === undefined) return "unknown";
    for (let asks = 0; asks < asksMax; asks++) {
      const answer = await surveys.tellOne(id, "settings", (replyTo) => others.send(id, { kind: "settings", started: known.started, ...change, replyTo }));
      if (answer !== null) return { weight: answer.weight, maxPartitions: answer.maxPartitions };
    }
    return "unanswered";
  }

  /** Another node passes on a change. */
  told({ kind: _, started, replyTo, ...asked }: Extract<NodeMessage, { kind: "settings" }>): void {
    const { setup: { log }, others, surveys } = this.#node;
    // Ignored if meant for an earlier node of this name, or if this node is not in the registry.
    if (started !== others.nodes().find(({ id }) => id === this.#id)?.started) return;
    const change = settingsShape.safeParse(asked);
    if (change.success) surveys.reply(replyTo, { kind: "settings", ...this.#apply(change.data) });
    else log.warn({ problem: change.error.issues[0]?.message }, "settings: a change passed on by another node is invalid and was ignored");
  }

  #apply({ weight = this.#current.weight, maxPartitions = this.#current.maxPartitions ?? 0 }: SettingsChange): NodeSettings {
    const { setup: { log }, others, placement, partitions } = this.#node;
    const before = this.#current;
    this.#current = { weight, maxPartitions };
    if (weight !== before.weight) log.info({ before: before.weight, weight }, `settings: the weight of this node is ${weight} until it exits; it was ${before.weight}`);
    if (maxPartitions !== before.maxPartitions) log.info({ before: before.maxPartitions, maxPartitions }, `settings: this node may hold ${maxPartitions || "any number of"} partitions until it exits`);
    partitions?.setMaxPartitions(maxPartitions);
    // The other nodes need not wait for the next heartbeat.
    void others.announceAgain().then(() => placement.look());
    return this.#current;
  }
}
