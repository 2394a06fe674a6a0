/** Which node serves which users: the table of owners, one user, and what a change of nodes would move. */
import { useState } from "preact/hooks";
import { ask, query } from "./api.ts";
import { count, duration } from "./format.ts";
import { Badge, Card, Empty, Field, Form, Notice, Table, Tile, Tiles, usePolled } from "./parts.tsx";
import { href } from "./route.ts";

interface Held { partition: number; owner: string; confirmed: boolean; unownedMs: number; here: string }
interface Overview {
  placement: string; partitions: number; table: { number: number; by: string; at: number } | null;
  members: { id: string; weight: number; partitions: number }[]; moves: { perSecond: number; problem: string }; held?: Held[];
}
interface Plan { moved: number; partitions: number; between: number; nodes: { id: string; weightBefore: number; weightAfter: number; before: number; after: number; gains: number; loses: number; sessionsLost: number | null }[] }
interface Explained { user: string; tenant: string; owner: string | null; ownerState: string | null; why: string; partition: number; sessions: { sessions: number; answers: { node: string; sessions: number }[] } }

export function Placement() {
  const seen = usePolled(() => ask<Overview>("api/admin/placement"), 5_000, []);
  const { value } = seen;
  const unowned = value?.held?.filter(({ owner }) => owner === "") ?? [];
  return (
    <>
      <h1>Placement</h1>
      {seen.failed !== "" && <Notice tone="bad">{seen.failed}</Notice>}
      {value !== null && (
        <Tiles>
          <Tile label="Mode" value={value.placement} detail={value.placement === "any" ? "any node serves any user" : "each user has an owner"} />
          <Tile label="Partitions" value={count(value.partitions)} detail={value.held === undefined ? "" : `${count(unowned.length)} without an owner`} tone={unowned.length > 0 ? "bad" : "plain"} />
          <Tile label="Table" value={value.table === null ? "none" : value.table.number} detail={value.table === null ? "" : `made by ${value.table.by}, ${duration(Date.now() - value.table.at)} ago`} />
          <Tile label="Moves" value={`${count(value.moves.perSecond)}/s`} detail={value.moves.problem || "sessions may move"} tone={value.moves.problem === "" ? "plain" : "warn"} />
        </Tiles>
      )}
      <Card title="Owners">
        <Table label="Owners" rows={value?.members ?? []} keyOf={({ id }) => id} empty="There is no table: --placement is off, or no node is known yet." columns={[
          { head: "Node", cell: ({ id }) => <a href={href("nodes", id)}>{id}</a> },
          { head: "Weight", isNumber: true, cell: ({ weight }) => weight },
          { head: "Partitions", isNumber: true, cell: ({ partitions }) => count(partitions) },
        ]} />
      </Card>
      {unowned.length > 0 && (
        <Card title="Partitions without an owner" note="Their users wait.">
          <Table label="Partitions without an owner" rows={unowned} keyOf={({ partition }) => String(partition)} columns={[
            { head: "Partition", isNumber: true, cell: ({ partition }) => partition },
            { head: "For", isNumber: true, cell: ({ unownedMs }) => duration(unownedMs) },
            { head: "Here", cell: ({ here }) => here },
          ]} />
        </Card>
      )}
      <div class="columns"><Explain /><Planned /></div>
    </>
  );
}

function Explain() {
  const [found, setFound] = useState<Explained | null>(null);
  return (
    <Card title="Explain a user" note="Where a user belongs, and why.">
      <Form label="Explain" inline onSend={async ({ user, tenant }) => setFound(await ask<Explained>(`api/admin/placement${query({ user, tenant })}`))}>
        <Field label="User" name="user" required />
        <Field label="Tenant" name="tenant" placeholder="none" />
      </Form>
      {found === null ? <Empty>Name a user.</Empty> : (
        <>
          <p><a href={href("users", found.user, found.tenant)}>{found.user}</a> belongs on <strong>{found.owner ?? "any node"}</strong> {found.ownerState !== null && <Badge tone={found.ownerState === "up" ? "good" : "warn"}>{found.ownerState}</Badge>}</p>
          <p class="dim">{found.why}. Partition {found.partition}. {found.sessions.sessions} sessions{found.sessions.answers.filter((one) => one.sessions > 0).map((one) => `, ${one.sessions} on ${one.node}`).join("")}.</p>
        </>
      )}
    </Card>
  );
}

function Planned() {
  const [plan, setPlan] = useState<Plan | null>(null);
  return (
    <Card title="Plan a change" note="What would move. Nothing is changed.">
      <Form label="Plan" inline onSend={async ({ plan: changes }) => setPlan(await ask<Plan>(`api/admin/placement${query({ plan: changes })}`))}>
        <Field label="Changes" name="plan" required placeholder="+gateway-4,-gateway-2,gateway-1=2" hint="Join, leave, or another weight." />
      </Form>
      {plan !== null && (
        <>
          <p>{count(plan.moved)} of {count(plan.partitions)} partitions would move, {count(plan.between)} of them between nodes whose weight stays.</p>
          <Table label="Plan" rows={plan.nodes} keyOf={({ id }) => id} columns={[
            { head: "Node", cell: ({ id }) => id },
            { head: "Weight", isNumber: true, cell: ({ weightBefore, weightAfter }) => (weightBefore === weightAfter ? weightAfter : `${weightBefore} → ${weightAfter}`) },
            { head: "Partitions", isNumber: true, cell: ({ before, after }) => (before === after ? after : `${before} → ${after}`) },
            { head: "Sessions that move", isNumber: true, cell: ({ sessionsLost }) => (sessionsLost === null ? "–" : count(sessionsLost)) },
          ]} />
        </>
      )}
    </Card>
  );
}
