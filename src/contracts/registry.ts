/** Contract of the registry, clause by clause of src/registry/registry.ts. Run over each implementation. */
import type { Test } from "tap";
import type { NodeFacts, Registry, RegistryEvents } from "../registry/registry.ts";
import { until } from "./until.ts";

export interface RegistryOptions {
  readonly id: string;
  readonly facts: () => NodeFacts;
}

/** A gateway that the nodes of one test join. */
export interface Joining {
  join(options: RegistryOptions, events: RegistryEvents): Registry | Promise<Registry>;
  /** Whether several nodes can join. */
  readonly shared: boolean;
}

export function factsOf(port: number): NodeFacts {
  return { ip: "10.0.0.1", port, url: `ws://10.0.0.1:${port}/ws`, region: "here", load: 0.25, cpu: 0.5, rss: 1e8, reactors: 2, version: "1.2.3", sockets: 7, started: 1_000 };
}

export function registryContract(t: Test, name: string, make: (t: Test) => Joining | Promise<Joining>): void {
  const start = async (t: Test, count: number) => {
    const gateway = await make(t);
    const nodes = [];
    for (let i = 0; i < count; i++) {
      const told: string[] = [];
      const id = `n${i}`;
      const registry = await gateway.join({ id, facts: () => factsOf(i + 1) }, { nodeChanged: ({ kind, node }) => void told.push(`${kind} ${node.id}`) });
      t.teardown(() => registry.stop());
      nodes.push({ id, registry, told });
    }
    return { gateway, nodes };
  };
  const ids = (registry: Registry) => registry.nodes().map(({ id, state }) => `${id} ${state}`);

  t.test(`${name}: a node that has not announced itself is nowhere, then it is, with what it says of itself`, async (t) => {
    const { nodes: [node] } = await start(t, 1);
    t.same(node!.registry.nodes(), []);
    await node!.registry.announce("up");
    const [self, ...others] = node!.registry.nodes();
    t.same(others, []);
    t.match(self, { id: "n0", state: "up", ...factsOf(1), silentMs: 0 });
    t.type(self?.last_heartbeat, "number");
    t.equal(node!.registry.stale, false);
    await node!.registry.announce("draining");
    t.same(ids(node!.registry), ["n0 draining"]);
    t.same(node!.told, [], "of itself it is not told");
  });

  t.test(`${name}: nodes see each other come, drain and leave, each once`, async (t) => {
    const gateway = await make(t);
    if (!gateway.shared) return t.pass("a node alone has no others");
    const { nodes: [a, b, c] } = await start(t, 3);
    for (const { registry } of [a!, b!, c!]) await registry.announce("up");
    for (const { registry } of [a!, b!, c!]) await until(() => registry.nodes().length === 3, "three nodes");
    t.equal(b!.registry.nodes()[0]?.id, "n1", "oneself comes first");
    t.match(b!.registry.nodes().find(({ id }) => id === "n2"), { ...factsOf(3), state: "up" });
    await c!.registry.announce("draining");
    for (const { told } of [a!, b!]) await until(() => told.includes("draining n2"), "the draining");
    t.same(ids(a!.registry), ["n0 up", "n1 up", "n2 draining"]);
    await c!.registry.stop();
    for (const { told } of [a!, b!]) await until(() => told.includes("left n2"), "the leaving");
    t.same(ids(a!.registry), ["n0 up", "n1 up"]);
    t.same([...a!.told].sort(), ["draining n2", "left n2", "up n1", "up n2"]);
    t.same([...b!.told].sort(), ["draining n2", "left n2", "up n0", "up n2"]);
  });

  t.test(`${name}: a node that came later knows those that were there`, async (t) => {
    const { gateway, nodes: [a] } = await start(t, 1);
    if (!gateway.shared) return t.pass("a node alone has no others");
    await a!.registry.announce("up");
    const told: string[] = [];
    const late = await gateway.join({ id: "late", facts: () => factsOf(9) }, { nodeChanged: ({ kind, node }) => void told.push(`${kind} ${node.id}`) });
    t.teardown(() => late.stop());
    t.same(ids(late), ["n0 up"], "before it has announced itself, too");
    t.same(told, ["up n0"]);
    t.same(ids(a!.registry), ["n0 up"], "who only looks is not there");
  });
}
