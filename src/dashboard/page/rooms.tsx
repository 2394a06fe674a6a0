/** The rooms, and one of them: members by node, position, history, publishing. */
import { useState } from "preact/hooks";
import { ask, query } from "./api.ts";
import { hotRooms } from "./attention.ts";
import { count, time } from "./format.ts";
import { about } from "./live.ts";
import { HotTable } from "./overview.tsx";
import { Action, Card, Empty, Field, Form, Notice, Table, Tile, Tiles, Unanswered, usePolled } from "./parts.tsx";
import { go, href } from "./route.ts";
import { RoomTrace } from "./trace.tsx";

interface RoomsPage { rooms: { room: string; sessions: number }[]; next: string | null; unanswered: string[] }
interface RoomInfo { sessions: number; users: number | null; nodes: { node: string; sessions: number }[]; unanswered: string[] }
interface Publication { position: string; sender: string; time: string; data?: unknown; b64?: string }
interface HistoryPage { publications: Publication[]; position: string; next: string | null; gap?: boolean }
interface MembersPage { users: number; members: { user: string; sessions: number }[]; next: string | null }

const pathOf = (room: string) => `api/v1/rooms/${encodeURIComponent(room)}`;

export function Rooms() {
  const hot = usePolled(() => about("hot"), 3_000, []);
  const [asked, setAsked] = useState({ prefix: "", tenant: "" });
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const page = usePolled(() => ask<RoomsPage>(`api/v1/rooms${query({ ...asked, cursor: cursors.at(-1), limit: 25 })}`), 10_000, [asked, cursors]);
  return (
    <>
      <h1>Rooms</h1>
      <Card title="Open a room">
        <Form label="Open" inline onSend={({ room = "", tenant = "" }) => go("rooms", room, tenant)}>
          <Field label="Room" name="room" required placeholder="chat:general" />
          <Field label="Tenant" name="tenant" placeholder="none" />
        </Form>
      </Card>
      <Card title="Hottest rooms" note="Measured over the last seconds, on all nodes, while you look.">
        <Unanswered nodes={hot.value?.unanswered ?? []} />
        <HotTable rows={hotRooms(hot.value)} />
      </Card>
      <Card title="All rooms with members" note="Sorted by name.">
        <Form label="Search" inline onSend={({ prefix = "", tenant = "" }) => { setCursors([]); setAsked({ prefix, tenant }); }}>
          <Field label="Name begins with" name="prefix" />
          <Field label="Tenant" name="tenant" placeholder="none" />
        </Form>
        {page.failed !== "" && <Notice tone="bad">{page.failed}</Notice>}
        <Unanswered nodes={page.value?.unanswered ?? []} />
        <Table label="Rooms" rows={page.value?.rooms ?? []} keyOf={({ room }) => room} empty={page.value === null ? "Loading…" : "No such room has members."} columns={[
          { head: "Room", cell: ({ room }) => <a href={href("rooms", room, asked.tenant)}>{room}</a> },
          { head: "Sessions", isNumber: true, cell: ({ sessions }) => count(sessions) },
        ]} />
        <nav class="pager" aria-label="Pages of rooms">
          <button type="button" disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>Previous</button>
          <button type="button" disabled={page.value?.next == null} onClick={() => setCursors([...cursors, page.value!.next!])}>Next</button>
        </nav>
      </Card>
    </>
  );
}

export function RoomView({ name, tenant }: { name: string; tenant: string }) {
  const info = usePolled(() => ask<RoomInfo>(`${pathOf(name)}${query({ tenant })}`), 2_000, [name, tenant]);
  const head = usePolled(() => ask<HistoryPage>(`${pathOf(name)}/history${query({ tenant, limit: 1 })}`), 2_000, [name, tenant]);
  const { value } = info;
  return (
    <>
      <p class="crumb"><a href={href("rooms")}>Rooms</a> / room</p>
      <h1 class="name">{name}</h1>
      {tenant !== "" && <p class="sub">Tenant {tenant}</p>}
      {info.failed !== "" && <Notice tone="bad">{info.failed}</Notice>}
      <Unanswered nodes={value?.unanswered ?? []} />
      <Tiles>
        <Tile label="Sessions" value={value === null ? "…" : count(value.sessions)} />
        <Tile label="Users" value={value === null ? "…" : value.users === null ? "–" : count(value.users)} detail={value?.users === null ? "not counted: presence is off" : undefined} />
        <Tile label="Position" value={<code>{head.value?.position ?? "–"}</code>} detail="epoch:seq of the newest" />
      </Tiles>
      <div class="columns">
        <Card title="Sessions by node">
          <Table label="Sessions by node" rows={value?.nodes ?? []} keyOf={({ node }) => node} empty="No member is connected." columns={[
            { head: "Node", cell: ({ node }) => <a href={href("nodes", node)}>{node}</a> },
            { head: "Sessions", isNumber: true, cell: ({ sessions }) => count(sessions) },
          ]} />
        </Card>
        <Members name={name} tenant={tenant} />
      </div>
      <RoomTrace key={`${tenant} ${name}`} name={name} tenant={tenant} />
      <History name={name} tenant={tenant} />
      <Publish name={name} tenant={tenant} />
    </>
  );
}

function Members({ name, tenant }: { name: string; tenant: string }) {
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const page = usePolled(() => ask<MembersPage>(`${pathOf(name)}/members${query({ tenant, after: cursors.at(-1), limit: 25 })}`), 5_000, [name, tenant, cursors]);
  return (
    <Card title="Members">
      {page.failed !== "" ? <Empty>{page.failed}</Empty> : (
        <>
          <Table label="Members" rows={page.value?.members ?? []} keyOf={({ user }) => user} empty={page.value === null ? "Loading…" : "No users."} columns={[
            { head: "User", cell: ({ user }) => <a href={href("users", user, tenant)}>{user}</a> },
            { head: "Sessions", isNumber: true, cell: ({ sessions }) => count(sessions) },
          ]} />
          {(cursors.length > 0 || page.value?.next != null) && (
            <nav class="pager" aria-label="Pages of members">
              <button type="button" disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>Previous</button>
              <button type="button" disabled={page.value?.next == null} onClick={() => setCursors([...cursors, page.value!.next!])}>Next</button>
            </nav>
          )}
        </>
      )}
    </Card>
  );
}

function History({ name, tenant }: { name: string; tenant: string }) {
  const [before, setBefore] = useState<string | null>(null);
  const page = usePolled(() => ask<HistoryPage>(`${pathOf(name)}/history${query({ tenant, limit: 20, reverse: "true", before })}`), 0, [name, tenant, before]);
  const { value } = page;
  return (
    <Card title="History" note="The newest first." action={<button type="button" onClick={() => { setBefore(null); page.again(); }}>Newest</button>}>
      {page.failed !== "" && <Notice tone="bad">{page.failed}</Notice>}
      {value?.gap === true && <Notice tone="warn">Publications are missing within this page.</Notice>}
      <Table label="History" rows={value?.publications ?? []} keyOf={({ position }) => position} empty={value === null ? "Loading…" : "The room keeps no publications."} columns={[
        { head: "Time", cell: (one) => <span title={one.time}>{time(Date.parse(one.time))}</span> },
        { head: "Position", cell: ({ position }) => <code>{position}</code> },
        { head: "Sender", cell: ({ sender }) => (sender === "" ? <span class="dim">application</span> : <a href={href("users", sender, tenant)}>{sender}</a>) },
        { head: "Payload", isLong: true, cell: (one) => <code class="payload">{payloadOf(one)}</code> },
      ]} />
      {value?.next != null && <nav class="pager" aria-label="Pages of the history"><button type="button" onClick={() => setBefore(value.next)}>Older</button></nav>}
    </Card>
  );
}

const shownMax = 500;

function payloadOf({ data, b64 }: Publication): string {
  const text = b64 ?? JSON.stringify(data) ?? "";
  return text.length > shownMax ? `${text.slice(0, shownMax)}… (${count(text.length)} characters)` : text;
}

function Publish({ name, tenant }: { name: string; tenant: string }) {
  const [text, setText] = useState("");
  const [said, setSaid] = useState("");
  let problem = "";
  try {
    if (text !== "") JSON.parse(text);
  } catch (error) {
    problem = (error as Error).message;
  }
  return (
    <Card title="Publish" note="As the application: it needs no right in the room.">
      <label class="field"><span>JSON</span><textarea rows={3} spellcheck={false} value={text} placeholder='{"text":"maintenance at 22:00"}' onInput={(event) => setText(event.currentTarget.value)} /></label>
      {problem !== "" && <p class="dim">{problem}</p>}
      <div class="actions">
        <Action label="Publish" disabled={text === "" || problem !== ""} act={async () => {
          const { position, receivers } = await ask<{ position: string; receivers: number }>(`${pathOf(name)}/publications${query({ tenant })}`, { method: "POST", body: { data: JSON.parse(text) as unknown } });
          setSaid(`Published at ${position}, to ${receivers} members on this node.`);
        }} />
      </div>
      {said !== "" && <Notice tone="good">{said}</Notice>}
    </Card>
  );
}
