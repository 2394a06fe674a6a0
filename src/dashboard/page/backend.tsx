/** What waits for the application's backend and for PostgreSQL: hooks, webhooks with their dead letters, the archive. */
import { useState } from "preact/hooks";
import { ask } from "./api.ts";
import { count, duration, time } from "./format.ts";
import { about } from "./live.ts";
import { Badge, Card, Confirm, Empty, Notice, Table, Unanswered, usePolled } from "./parts.tsx";
import { href } from "./route.ts";

interface Letters { endpoint: string; isDisabled: boolean; count: number; letters: { id: string; body: string; reason: string; at: number }[] }

export function Backend() {
  const work = usePolled(() => about("work"), 2_000, []);
  const answers = work.value?.answers ?? [];
  const hooks = answers.flatMap(({ node, said }) => said.hooks.map((one) => ({ node, ...one })));
  const webhooks = answers.flatMap(({ node, said }) => said.webhooks.map((one) => ({ node, ...one })));
  const archives = answers.flatMap(({ node, said }) => (said.archive === null ? [] : [{ node, ...said.archive }]));
  const failuresOf = (failures: Readonly<Record<string, number>>) => Object.entries(failures).filter(([, times]) => times > 0).map(([why, times]) => `${why} ${count(times)}`).join(", ") || "none";
  const breakerOf = (breaker: string) => <Badge tone={breaker === "closed" ? "good" : "bad"}>{breaker === "closed" ? "answers" : breaker === "open" ? "failing" : "on trial"}</Badge>;
  return (
    <>
      <h1>Backend</h1>
      {work.failed !== "" && <Notice tone="bad">{work.failed}</Notice>}
      <Unanswered nodes={work.value?.unanswered ?? []} />
      <Card title="Hooks" note="Questions to your backend before a session, a join or a publish. Counts are since each node started.">
        <Table label="Hooks" rows={hooks} keyOf={({ node, hook, namespace }) => `${node} ${hook} ${namespace}`} empty="No hook is configured." columns={[
          { head: "Hook", cell: ({ hook, namespace }) => <>{hook}{namespace !== "" && <small class="dim"> {namespace}</small>}</> },
          { head: "Node", cell: ({ node }) => <a href={href("nodes", node)}>{node}</a> },
          { head: "Backend", cell: ({ breaker }) => breakerOf(breaker) },
          { head: "Allowed", isNumber: true, cell: ({ allowed }) => count(allowed) },
          { head: "Denied", isNumber: true, cell: ({ denied }) => count(denied) },
          { head: "Waiting", isNumber: true, cell: ({ waiting, running }) => `${count(waiting)} (+${count(running)} running)` },
          { head: "Mean answer", isNumber: true, cell: ({ meanMs }) => `${meanMs} ms` },
          { head: "Failures", isLong: true, cell: ({ failures }) => failuresOf(failures) },
        ]} />
      </Card>
      <Card title="Webhooks" note="News for your backend. What fails for too long becomes a dead letter.">
        <Table label="Webhooks" rows={webhooks} keyOf={({ node, endpoint }) => `${node} ${endpoint}`} empty="No webhook is configured." columns={[
          { head: "Endpoint", cell: ({ endpoint }) => endpoint },
          { head: "Node", cell: ({ node }) => <a href={href("nodes", node)}>{node}</a> },
          { head: "State", cell: ({ isDisabled, breaker }) => (isDisabled ? <Badge tone="bad">gone (410)</Badge> : breakerOf(breaker)) },
          { head: "Told", isNumber: true, cell: ({ told }) => count(told) },
          { head: "Waiting", isNumber: true, cell: ({ waiting }) => count(waiting) },
          { head: "Oldest", isNumber: true, cell: ({ ageMs }) => duration(ageMs) },
          { head: "Dead letters", isNumber: true, cell: ({ deadLetters }) => count(deadLetters) },
          { head: "Lost", isNumber: true, cell: ({ lost }) => count(lost) },
          { head: "Failures", isLong: true, cell: ({ failures }) => failuresOf(failures) },
        ]} />
        {webhooks.length > 0 && <DeadLetters />}
      </Card>
      <Card title="Archive" note="How far PostgreSQL is behind. At the limit, publications are lost to the archive.">
        <Table label="Archive" rows={archives} keyOf={({ node }) => node} empty="No archive is configured." columns={[
          { head: "Node", cell: ({ node }) => <a href={href("nodes", node)}>{node}</a> },
          { head: "PostgreSQL", cell: ({ up }) => <Badge tone={up ? "good" : "bad"}>{up ? "connected" : "unavailable"}</Badge> },
          { head: "Lag", isNumber: true, cell: ({ lagMs, lagMaxMs }) => <>{duration(lagMs)}<small class="dim"> of {duration(lagMaxMs)}</small></> },
          { head: "Waiting", isNumber: true, cell: ({ pending }) => count(pending) },
          { head: "Streams", isNumber: true, cell: ({ streams }) => count(streams) },
          { head: "Archived", isNumber: true, cell: ({ rows }) => count(rows) },
          { head: "Gaps", isNumber: true, cell: ({ gaps, missing }) => `${count(gaps)} (${count(missing)} missing)` },
          { head: "Failures", isNumber: true, cell: ({ failures }) => count(failures) },
        ]} />
      </Card>
    </>
  );
}

function DeadLetters() {
  const dead = usePolled(() => ask<{ endpoints: Letters[] }>("api/admin/webhooks?max=100"), 5_000, []);
  const [replaying, setReplaying] = useState("");
  const [said, setSaid] = useState("");
  const endpoints = (dead.value?.endpoints ?? []).filter((one) => one.count > 0);
  const replay = async () => {
    const { told, left, problem } = await ask<{ told: number; left: number; problem: string }>("api/admin/webhooks", { method: "POST", body: { endpoint: replaying } });
    setSaid(`${told} told, ${left} left${problem === "" ? "." : `: ${problem}`}`);
    dead.again();
  };
  return (
    <>
      <h3>Dead letters</h3>
      {dead.failed !== "" && <Notice tone="bad">{dead.failed}</Notice>}
      {said !== "" && <Notice tone="good">{said}</Notice>}
      {endpoints.length === 0 && <Empty>None.</Empty>}
      {endpoints.map(({ endpoint, count: all, letters }) => (
        <div key={endpoint}>
          <p><strong>{endpoint}</strong>: {count(all)} <button type="button" onClick={() => setReplaying(endpoint)}>Send again…</button></p>
          <Table label={`Dead letters of ${endpoint}`} rows={letters} keyOf={({ id }) => id} columns={[
            { head: "Given up", cell: ({ at }) => time(at) },
            { head: "Reason", cell: ({ reason }) => reason },
            { head: "Body", isLong: true, cell: ({ body }) => <code class="payload">{body.slice(0, 400)}</code> },
          ]} />
        </div>
      ))}
      <Confirm open={replaying !== ""} title={`Send dead letters to ${replaying} again?`} label="Send again" onYes={replay} onClose={() => setReplaying("")}>
        <p>The oldest first, up to 100, until one fails. The endpoint may get an event that it has handled already: it knows it by its webhook-id.</p>
      </Confirm>
    </>
  );
}
