/** Live traces of a room and of a user: a sample of what happens, until it is stopped or has run for ten minutes. */
import { useEffect, useState } from "preact/hooks";
import { ask, query } from "./api.ts";
import { bytes, count, time } from "./format.ts";
import { Card, Empty, messageOf, Notice, Table } from "./parts.tsx";
import { href } from "./route.ts";
import type { Answers } from "./types.ts";

const everyMs = 1_000;
const longestMs = 10 * 60_000;
const shownMax = 200;

interface RoomEvent { n: number; at: number; position: string; sender: string; bytes: number; payload: string }
interface RoomAnswer { over: boolean; unsaid: number; last?: number; events: RoomEvent[] }

/** Asks every second; what comes is added to the list, the newest first. */
function useTrace<E>(next: () => Promise<{ events: E[]; unsaid: number; over: boolean }>) {
  const [running, setRunning] = useState(false);
  const [state, setState] = useState<{ events: E[]; unsaid: number; said: string }>({ events: [], unsaid: 0, said: "" });
  useEffect(() => {
    if (!running) return;
    const until = performance.now() + longestMs;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const stop = (said: string) => {
      if (isOver) return;
      setState((before) => ({ ...before, said }));
      setRunning(false);
    };
    const look = async () => {
      try {
        const { events, unsaid, over } = await next();
        if (isOver) return;
        setState((before) => ({ ...before, unsaid: before.unsaid + unsaid, events: [...events.reverse(), ...before.events].slice(0, shownMax) }));
        if (over || performance.now() > until) return stop("The trace has ended by itself.");
        timer = setTimeout(() => void look(), everyMs);
      } catch (error) {
        stop(messageOf(error));
      }
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [running]);
  return {
    ...state, running,
    toggle() {
      if (!running) setState({ events: [], unsaid: 0, said: "" });
      setRunning(!running);
    },
  };
}

function Toggle({ running, toggle }: { running: boolean; toggle: () => void }) {
  return <button type="button" class={running ? "danger" : "primary"} aria-pressed={running} onClick={toggle}>{running ? "Stop" : "Start trace"}</button>;
}

export function RoomTrace({ name, tenant }: { name: string; tenant: string }) {
  const [position] = useState({ after: 0 });
  const trace = useTrace<RoomEvent>(async () => {
    const { over, unsaid, last, events } = await ask<RoomAnswer>(`api/trace-room${query({ room: name, tenant, after: position.after })}`);
    position.after = events.at(-1)?.n ?? Math.max(position.after, last ?? 0);
    return { over, unsaid, events };
  });
  const toggle = () => {
    position.after = 0;
    trace.toggle();
  };
  return (
    <Card title="Live trace" note="At most ten publications a second are shown, the others counted. It stops by itself." action={<Toggle running={trace.running} toggle={toggle} />}>
      {trace.said !== "" && <Notice>{trace.said}</Notice>}
      {trace.unsaid > 0 && <p class="dim">{count(trace.unsaid)} more were not shown.</p>}
      {trace.events.length === 0 ? <Empty>{trace.running ? "Waiting for the next publication…" : "Not running."}</Empty> : (
        <Table label="Traced publications" rows={trace.events} keyOf={({ n }) => String(n)} columns={[
          { head: "Time", cell: ({ at }) => time(at) },
          { head: "Position", cell: ({ position: at }) => <code>{at}</code> },
          { head: "Sender", cell: ({ sender }) => (sender === "" ? <span class="dim">application</span> : <a href={href("users", sender, tenant)}>{sender}</a>) },
          { head: "Size", isNumber: true, cell: ({ bytes: size }) => bytes(size) },
          { head: "Payload", isLong: true, cell: ({ payload }) => <code class="payload">{payload}</code> },
        ]} />
      )}
    </Card>
  );
}

type UserEvent = Answers<"trace">["answers"][number]["said"]["events"][number] & { readonly node: string };

export function UserTrace({ name, tenant }: { name: string; tenant: string }) {
  const [seen] = useState(() => new Map<string, number>());
  const [began] = useState({ is: false });
  const trace = useTrace<UserEvent>(async () => {
    // One number for all nodes: each numbers its events by its clock, and what came twice is left out here.
    const after = began.is ? Math.max(1, Math.min(...seen.values(), Infinity) === Infinity ? 1 : Math.min(...seen.values())) : 0;
    began.is = true;
    const { answers } = await ask<Answers<"trace">>(`api/trace-user${query({ user: name, tenant, after })}`);
    if (answers.length === 0) throw new Error("No node traces the user: each traces at most eight users at once.");
    const events = answers.flatMap(({ node, said }) => {
      const before = seen.get(node) ?? 0;
      const fresh = said.events.filter(({ n }) => n > before);
      seen.set(node, fresh.at(-1)?.n ?? before);
      return fresh.map((event) => ({ ...event, node }));
    });
    return { over: false, unsaid: answers.reduce((sum, { said }) => sum + said.unsaid, 0), events: events.sort((a, b) => a.at - b.at) };
  });
  const toggle = () => {
    seen.clear();
    began.is = false;
    trace.toggle();
  };
  return (
    <Card title="Live trace" note="Hellos, commands, errors and closes of the user's sessions on all nodes, at most 20 a second of each node. It stops by itself." action={<Toggle running={trace.running} toggle={toggle} />}>
      {trace.said !== "" && <Notice>{trace.said}</Notice>}
      {trace.unsaid > 0 && <p class="dim">{count(trace.unsaid)} more were not shown.</p>}
      {trace.events.length === 0 ? <Empty>{trace.running ? "Waiting for the user to do something…" : "Not running."}</Empty> : (
        <Table label="Traced events" rows={trace.events} keyOf={({ n, node }) => `${node} ${n}`} columns={[
          { head: "Time", cell: ({ at }) => time(at) },
          { head: "Node", cell: ({ node, reactor }) => <>{node}<small class="dim"> /{reactor}</small></> },
          { head: "Session", cell: ({ session }) => <code>{session.slice(0, 8)}</code> },
          { head: "Event", cell: ({ what }) => what },
          { head: "Details", isLong: true, cell: ({ details }) => <span class="payload">{details}</span> },
        ]} />
      )}
    </Card>
  );
}
