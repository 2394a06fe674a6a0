/** How the cluster is: what needs attention, the last 15 minutes, the nodes, and why clients were turned away. */
import { findings, hotRooms, reasonsOf, type Finding } from "./attention.ts";
import { Chart, Legend } from "./chart.tsx";
import { bytes, count, duration, percent } from "./format.ts";
import { about, answering, isAnswering, live, nodes, reading, worstLag } from "./live.ts";
import { Badge, Card, Empty, Notice, Table, Tile, Tiles, Unanswered, usePolled, type Tone } from "./parts.tsx";
import { href } from "./route.ts";
import type { NodeNow } from "./types.ts";

export function Overview() {
  const reasons = usePolled(() => about("reasons"), 3_000, []);
  const hot = usePolled(() => about("hot"), 3_000, []);
  void reading.value;
  const all = nodes.value;
  const names = all.map(({ id }) => id);
  const found = findings(all, reasons.value, hot.value);
  return (
    <>
      <h1>Overview</h1>
      <Totals />
      <Attention found={found} isRead={reasons.value !== null && hot.value !== null} />
      <Card title="Last 15 minutes" note={<Legend nodes={names} />}>
        <div class="charts">
          <Chart title="Deliveries per second" series="deliveries" show={count} nodes={names} />
          <Chart title="Sockets" series="sockets" show={count} nodes={names} />
          <Chart title="New connections per second" series="opened" show={count} nodes={names} />
          <Chart title="Event loop delay, worst thread" series="lagMs" show={duration} nodes={names} />
        </div>
      </Card>
      <Card title="Nodes" note="Open a node for its reactors, its weight, and to drain it."><NodeTable rows={all} /></Card>
      <Card id="reasons" title="Why sockets were closed or refused" note="By the nodes, in the last minute and the last 15.">
        <Unanswered nodes={reasons.value?.unanswered ?? []} />
        <Reasons rows={reasonsOf(reasons.value)} />
      </Card>
      <Card title="Hottest rooms" note="By deliveries per second, on all nodes." action={<a href={href("rooms")}>All rooms</a>}>
        <HotTable rows={hotRooms(hot.value).slice(0, 5)} />
      </Card>
    </>
  );
}

function Totals() {
  const now = answering.value.map((one) => one.now);
  const sum = (read: (one: (typeof now)[number]) => number) => now.reduce((total, one) => total + read(one), 0);
  const lag = Math.max(0, ...now.map(worstLag));
  const silent = nodes.value.length - now.length;
  return (
    <Tiles>
      <Tile label="Nodes" value={`${now.length}/${nodes.value.length}`} detail={silent > 0 ? `${silent} do not answer` : "all answer"} tone={silent > 0 ? "bad" : "good"} />
      <Tile label="Sockets" value={count(sum((one) => one.sockets))} detail={`${count(sum((one) => one.users))} users`} />
      <Tile label="Deliveries/s" value={count(sum((one) => one.deliveries))} detail={`${bytes(sum((one) => one.bytesOut))}/s out`} />
      <Tile label="Publications/s" value={count(Math.max(0, ...now.map((one) => one.publications)))} detail="busiest node" />
      <Tile label="New connections/s" value={count(sum((one) => one.opened))} detail={`${count(sum((one) => one.closed))}/s closed by nodes`} />
      <Tile label="Loop delay" value={duration(lag)} detail="worst thread" tone={lag >= 500 ? "bad" : lag >= 100 ? "warn" : "good"} />
    </Tiles>
  );
}

function Attention({ found, isRead }: { found: readonly Finding[]; isRead: boolean }) {
  if (live.value === null || (found.length === 0 && !isRead)) return null;
  return (
    <Card title="Needs attention" id="attention">
      {found.length === 0 ? <Notice tone="good">Nothing. All nodes answer, no client is slow, and nobody is turned away.</Notice> : (
        <ul class="findings">
          {found.slice(0, 12).map(({ tone, what, text, link }) => (
            <li key={what.replace(/[\d.,]+/g, "")} class={tone}><Badge tone={tone}>{tone === "bad" ? "Problem" : "Check"}</Badge><div><a href={link}>{what}</a><p>{text}</p></div></li>
          ))}
          {found.length > 12 && <li><p>and {found.length - 12} more: see the nodes below</p></li>}
        </ul>
      )}
    </Card>
  );
}

export function stateOf(node: NodeNow): readonly [Tone, string] {
  if (node.state === "down") return ["bad", "down"];
  if (!isAnswering(node)) return ["bad", node.silentMs < 0 ? "no answer" : `silent ${duration(node.silentMs)}`];
  if (node.state === "draining") return ["warn", "draining"];
  return node.now.ready ? ["good", "ready"] : ["bad", "not ready"];
}

function NodeTable({ rows }: { rows: readonly NodeNow[] }) {
  const num = (head: string, read: (now: NonNullable<NodeNow["now"]>) => string) => ({ head, isNumber: true, cell: (node: NodeNow) => (node.now === null ? "–" : read(node.now)) });
  return (
    <>
      <Table label="Nodes" rows={rows} keyOf={({ id }) => id} columns={[
        { head: "Node", cell: ({ id }) => <a href={href("nodes", id)}>{id}</a> },
        { head: "State", cell: (node) => { const [tone, text] = stateOf(node); return <Badge tone={tone}>{text}</Badge>; } },
        num("Sockets", (now) => count(now.sockets)),
        num("Deliveries/s", (now) => count(now.deliveries)),
        num("New/s", (now) => count(now.opened)),
        num("Loop delay", (now) => duration(worstLag(now))),
        num("Hub busy", (now) => percent(now.hub.busy)),
        num("Reactors busy", (now) => percent(Math.max(0, ...now.reactors.map(({ busy }) => busy)))),
        num("Slow sockets", (now) => count(now.reactors.reduce((sum, one) => sum + one.slow, 0))),
        num("Memory", (now) => percent(now.memoryBytes / now.memoryLimitBytes)),
        num("Up", (now) => duration(now.upMs)),
      ]} />
      {(live.value?.more ?? 0) > 0 && <Notice>{live.value!.more} more nodes are not listed.</Notice>}
    </>
  );
}

function Reasons({ rows }: { rows: ReturnType<typeof reasonsOf> }) {
  return (
    <Table label="Reasons" rows={rows} keyOf={({ reason }) => reason} empty="No socket was closed or refused by a node in the last 15 minutes." columns={[
      { head: "Reason", cell: ({ reason, code }) => <><code>{reason}</code>{code > 0 && <small class="dim"> {code}</small>}</> },
      { head: "Last minute", isNumber: true, cell: ({ minute }) => count(minute) },
      { head: "15 minutes", isNumber: true, cell: ({ quarter }) => count(quarter) },
      { head: "Nodes", cell: ({ nodes: of }) => of.join(", ") },
      { head: "What it means, and what to do", isLong: true, cell: ({ text, hint, client }) => <>{text}{hint !== "" && <span class="dim">. {hint}</span>}{client !== "" && <span class="dim"> (last client: {client})</span>}</> },
    ]} />
  );
}

export function HotTable({ rows }: { rows: ReturnType<typeof hotRooms> }) {
  if (rows.length === 0) return <Empty>No room has had a publication in the last seconds.</Empty>;
  return (
    <Table label="Hottest rooms" rows={rows} keyOf={({ room, tenant }) => `${tenant} ${room}`} columns={[
      { head: "Room", cell: ({ room, tenant }) => (room.startsWith("@inbox") ? room : <><a href={href("rooms", room, tenant)}>{room}</a>{tenant !== "" && <small class="dim"> {tenant}</small>}</>) },
      { head: "Publications/s", isNumber: true, cell: ({ perSecond }) => count(perSecond) },
      { head: "Members", isNumber: true, cell: ({ members }) => count(members) },
      { head: "Deliveries/s", isNumber: true, cell: ({ deliveries }) => count(deliveries) },
      { head: "Nodes", cell: ({ nodes: of }) => of.join(", ") },
    ]} />
  );
}
