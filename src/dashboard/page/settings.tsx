/** The options of each node that are not at their defaults. Secrets are hidden by the node. */
import { useState } from "preact/hooks";
import { about } from "./live.ts";
import { Badge, Card, Notice, Table, Unanswered, usePolled } from "./parts.tsx";

export function Settings() {
  const [node, setNode] = useState("");
  const given = usePolled(() => about("settings"), 0, []);
  const answers = given.value?.answers ?? [];
  const shown = answers.find((one) => one.node === node) ?? answers[0];
  // What nodes usually have alike, and these have not.
  const valuesOf = (key: string) => new Set(answers.map(({ said }) => said.find((one) => one.key === key)?.value ?? "(default)"));
  const own = new Set(["nodeId", "port", "adminPort", "host", "adminHost", "nodeUrl", "nodeHost", "tcpPort", "metricsPort", "apiPort", "dataDir"]);
  return (
    <>
      <h1>Configuration</h1>
      <Card title="Options that were given" note="All others are at their defaults. Secrets are hidden." action={answers.length > 1 && (
        <label class="field inline-field"><span>Node</span><select value={shown?.node} onChange={(event) => setNode(event.currentTarget.value)}>{answers.map((one) => <option key={one.node} value={one.node}>{one.node}</option>)}</select></label>
      )}>
        {given.failed !== "" && <Notice tone="bad">{given.failed}</Notice>}
        <Unanswered nodes={given.value?.unanswered ?? []} />
        <Table label="Options" rows={shown?.said ?? []} keyOf={({ key }) => key} empty={given.value === null ? "Loading…" : "Every option is at its default."} columns={[
          { head: "Option", cell: ({ key, text }) => <><code title={text}>{key}</code>{!own.has(key) && valuesOf(key).size > 1 && <> <Badge tone="warn">differs</Badge></>}</> },
          { head: "Value", isLong: true, cell: ({ value }) => <code class="payload">{value}</code> },
          { head: "Default", isLong: true, cell: ({ standard }) => <span class="dim">{standard}</span> },
          { head: "From", cell: ({ from }) => from },
          { head: "Meaning", isLong: true, cell: ({ text }) => <span class="dim">{text}</span> },
        ]} />
      </Card>
    </>
  );
}
