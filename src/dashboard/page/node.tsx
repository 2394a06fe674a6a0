/** One node: its reactors, its weight, and its drain. */
import { useState } from "preact/hooks";
import { ask } from "./api.ts";
import { Chart } from "./chart.tsx";
import { bytes, count, duration, percent } from "./format.ts";
import { isAnswering, nodes, reading, worstLag } from "./live.ts";
import { stateOf } from "./overview.tsx";
import { Badge, Card, Confirm, Empty, Field, Form, Notice, Table, Tile, Tiles } from "./parts.tsx";
import { href } from "./route.ts";
import type { NodeNow, Now } from "./types.ts";

export function NodeView({ name }: { name: string }) {
  void reading.value;
  const node = nodes.value.find(({ id }) => id === name);
  if (node === undefined) return <><h1>{name}</h1><Empty>There is no such node now. <a href={href("overview")}>All nodes</a></Empty></>;
  const [tone, state] = stateOf(node);
  const { now } = node;
  return (
    <>
      <p class="crumb"><a href={href("overview")}>Overview</a> / node</p>
      <h1>{name} <Badge tone={tone}>{state}</Badge></h1>
      <p class="sub">{now === null ? "" : `Version ${now.version} · up ${duration(now.upMs)} · `}{node.url}{node.region === "" ? "" : ` · ${node.region}`}</p>
      {!isAnswering(node) && node.state !== "down" && <Notice tone="bad">The node does not answer: what is shown is {duration(node.silentMs)} old.</Notice>}
      {now !== null && !now.ready && <Notice tone="bad">{now.problem}</Notice>}
      {now !== null && <Figures now={now} />}
      <Card title="Last 15 minutes">
        <div class="charts">
          <Chart title="Deliveries per second" series="deliveries" show={count} nodes={[name]} />
          <Chart title="Event loop delay, worst thread" series="lagMs" show={duration} nodes={[name]} />
          <Chart title="Longest socket queue" series="queueBytes" show={bytes} nodes={[name]} />
          <Chart title="Memory" series="memoryBytes" show={bytes} nodes={[name]} />
        </div>
      </Card>
      {now !== null && <Card title="Reactors" note="Worker threads. Each owns its sockets; the hub, in the main thread, orders rooms."><Reactors now={now} /></Card>}
      <Operate node={node} />
    </>
  );
}

function Figures({ now }: { now: Now }) {
  const lag = worstLag(now);
  const link = (reached: boolean | null) => (reached === null ? "not used" : reached ? "connected" : "unavailable");
  return (
    <Tiles>
      <Tile label="Sockets" value={count(now.sockets)} detail={`${count(now.users)} users`} />
      <Tile label="Rooms" value={count(now.rooms)} detail={`${count(now.publications)} publications/s`} />
      <Tile label="Hub busy" value={percent(now.hub.busy)} detail={`delay ${duration(now.hub.lagMs)}`} tone={now.hub.busy >= 0.85 ? "warn" : "plain"} />
      <Tile label="Loop delay" value={duration(lag)} detail="worst thread" tone={lag >= 500 ? "bad" : lag >= 100 ? "warn" : "good"} />
      <Tile label="Memory" value={percent(now.memoryBytes / now.memoryLimitBytes)} detail={`${bytes(now.memoryBytes)} of ${bytes(now.memoryLimitBytes)}`} tone={now.memoryShort ? "bad" : "plain"} />
      <Tile label="Broker answers" value={now.brokerMs === 0 ? "–" : `${now.brokerMs} ms`} detail={`NATS ${link(now.nats)}, Redis ${link(now.redis)}`} tone={now.nats === false || now.redis === false ? "bad" : "plain"} />
    </Tiles>
  );
}

function Reactors({ now }: { now: Now }) {
  const rows = now.reactors.map((one, index) => ({ ...one, index }));
  const num = (head: string, read: (one: (typeof rows)[number]) => string) => ({ head, isNumber: true, cell: read });
  return <Table label="Reactors" rows={rows} keyOf={({ index }) => String(index)} columns={[
    { head: "Reactor", cell: ({ index }) => index },
    num("Sockets", (one) => count(one.sockets)),
    num("Deliveries/s", (one) => count(one.deliveries)),
    num("Busy", (one) => percent(one.busy)),
    num("Loop delay", (one) => duration(one.lagMs)),
    num("Queue from hub", (one) => bytes(one.ringBytes)),
    num("Longest socket queue", (one) => bytes(one.queueBytes)),
    num("Slow sockets", (one) => count(one.slow)),
    num("Members behind", (one) => count(one.behind)),
    num("Heap", (one) => (one.heapLimitBytes > 0 ? `${bytes(one.heapBytes)} (${percent(one.heapBytes / one.heapLimitBytes)})` : bytes(one.heapBytes))),
  ]} />;
}

function Operate({ node: { id, state } }: { node: NodeNow }) {
  const [isOpen, setOpen] = useState(false);
  const [said, setSaid] = useState("");
  const drain = async () => {
    // The answer goes on until the node has exited: its figures are shown above.
    const stop = new AbortController();
    const asked = ask("api/admin/drain", { method: "POST", body: { node: id }, signal: stop.signal });
    await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, 1_500))]);
    asked.catch(() => undefined);
    stop.abort();
    setSaid("The drain has begun: the node disconnects its clients, spread over its drainMs, and exits.");
  };
  return (
    <Card title="Operate" note="Each action is in the log of the node whose dashboard this is, with your key's name and address.">
      <div class="split">
        <Form label="Set weight" inline onSend={async ({ weight }) => {
          await ask("api/admin/settings", { method: "POST", body: { node: id, weight: Number(weight) } });
          setSaid(`The weight of ${id} is ${weight} until it exits.`);
        }}>
          <Field label="Weight" name="weight" type="number" min="0" max="16" required hint="Its share of the users, with --placement. 0: none." />
        </Form>
        <div>
          <p class="dim">A drain sends all clients of the node to other nodes, then ends its process.</p>
          <button type="button" class="danger" disabled={state !== "up"} onClick={() => setOpen(true)}>Drain {id}…</button>
        </div>
      </div>
      {said !== "" && <Notice tone="good">{said}</Notice>}
      <Confirm open={isOpen} title={`Drain ${id}?`} word={id} label="Drain" onYes={drain} onClose={() => setOpen(false)}>
        <p>The node takes no new clients, disconnects those it has, and its process ends. This cannot be undone. What starts it again is your service manager.</p>
      </Confirm>
    </Card>
  );
}
