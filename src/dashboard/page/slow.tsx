/** The slowest sessions of all nodes. */
import { bytes, duration } from "./format.ts";
import { about } from "./live.ts";
import { Card, Notice, Table, Unanswered, usePolled } from "./parts.tsx";
import { href } from "./route.ts";

export function Slow() {
  const slow = usePolled(() => about("slow"), 2_000, []);
  const rows = (slow.value?.answers ?? []).flatMap(({ node, said }) => said.map((one) => ({ node, ...one }))).sort((a, b) => b.queuedBytes - a.queuedBytes);
  return (
    <>
      <h1>Slow readers</h1>
      <Card title="Sessions with the longest socket queues" note="A client that reads slower than it is sent to fills its queue. What follows is up to slowReaders of the room's namespace: disconnect (3008), drop or catch-up.">
        {slow.failed !== "" && <Notice tone="bad">{slow.failed}</Notice>}
        <Unanswered nodes={slow.value?.unanswered ?? []} />
        <Table label="Slow sessions" rows={rows} keyOf={({ node, session }) => `${node} ${session}`} empty={slow.value === null ? "Loading…" : "No socket has a long queue."} columns={[
          { head: "User", cell: ({ user, tenant }) => <a href={href("users", user, tenant)}>{user}</a> },
          { head: "Queued", isNumber: true, cell: ({ queuedBytes }) => bytes(queuedBytes) },
          { head: "Slow for", isNumber: true, cell: ({ slowMs }) => duration(slowMs) },
          { head: "Node", cell: ({ node, reactor }) => <><a href={href("nodes", node)}>{node}</a><small class="dim"> /{reactor}</small></> },
          { head: "Session", cell: ({ session }) => <code>{session}</code> },
          { head: "State", cell: ({ state }) => state },
          { head: "Rooms behind", isLong: true, cell: ({ roomsBehind, tenant }) => roomsBehind.map((room, i) => <span key={room}>{i > 0 && ", "}<a href={href("rooms", room, tenant)}>{room}</a></span>) },
        ]} />
      </Card>
    </>
  );
}
