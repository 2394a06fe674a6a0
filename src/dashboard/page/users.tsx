/** One user: sessions, rooms, where the user belongs, inbox, and how to disconnect. */
import { useState } from "preact/hooks";
import { ask, query } from "./api.ts";
import { bytes, count, time } from "./format.ts";
import { Action, Card, Confirm, Empty, Field, Form, Notice, Table, Tile, Tiles, Unanswered, usePolled } from "./parts.tsx";
import { go, href } from "./route.ts";
import { UserTrace } from "./trace.tsx";

interface UserInfo { sessions: { session: string; node: string; device: string; rooms: number }[]; joined: string[] | null; unanswered: string[] }
interface Explained { placement: string; owner: string | null; why: string; partition: number; partitions: number }
interface Inbox { problem: string; messages: { position: string; at: number; sender: string; bytes: number; payload: string }[] }

export function Users() {
  return (
    <>
      <h1>Users</h1>
      <Card title="Open a user" note="By the name that tokens give (sub).">
        <Form label="Open" inline onSend={({ user = "", tenant = "" }) => go("users", user, tenant)}>
          <Field label="User" name="user" required placeholder="ann" />
          <Field label="Tenant" name="tenant" placeholder="none" />
        </Form>
      </Card>
      <Empty>Members of a room lead here too: open a <a href={href("rooms")}>room</a>.</Empty>
    </>
  );
}

export function UserView({ name, tenant }: { name: string; tenant: string }) {
  const path = `api/v1/users/${encodeURIComponent(name)}`;
  const info = usePolled(() => ask<UserInfo>(`${path}${query({ tenant })}`), 2_000, [name, tenant]);
  const placed = usePolled(() => ask<Explained>(`api/admin/placement${query({ user: name, tenant })}`), 10_000, [name, tenant]);
  const { value } = info;
  const devices = new Set(value?.sessions.map(({ device }) => device).filter((device) => device !== ""));
  return (
    <>
      <p class="crumb"><a href={href("users")}>Users</a> / user</p>
      <h1 class="name">{name}</h1>
      {tenant !== "" && <p class="sub">Tenant {tenant}</p>}
      {info.failed !== "" && <Notice tone="bad">{info.failed}</Notice>}
      <Unanswered nodes={value?.unanswered ?? []} />
      <Tiles>
        <Tile label="Sessions" value={value === null ? "…" : count(value.sessions.length)} detail={`on ${new Set(value?.sessions.map(({ node }) => node)).size} nodes`} />
        <Tile label="Devices" value={count(devices.size)} detail={[...devices].slice(0, 3).join(", ") || "none named"} />
        <Tile label="Belongs on" value={placed.value?.owner ?? "any node"} detail={placed.value === null ? "" : placed.value.why} />
      </Tiles>
      <Card title="Sessions">
        <Table label="Sessions" rows={value?.sessions ?? []} keyOf={({ session }) => session} empty={value === null ? "Loading…" : "The user is not connected."} columns={[
          { head: "Session", cell: ({ session }) => <code>{session}</code> },
          { head: "Node", cell: ({ node }) => <a href={href("nodes", node)}>{node}</a> },
          { head: "Device", cell: ({ device }) => device || <span class="dim">none</span> },
          { head: "Rooms", isNumber: true, cell: ({ rooms }) => count(rooms) },
        ]} />
      </Card>
      <UserTrace key={`${tenant} ${name}`} name={name} tenant={tenant} />
      <div class="columns">
        <Card title="Rooms by the application" note="The application has joined the user into these.">
          <Table label="Rooms" rows={value?.joined ?? []} keyOf={(room) => room} empty={value?.joined === null ? "They cannot be read now." : "None."} columns={[{ head: "Room", cell: (room) => <a href={href("rooms", room, tenant)}>{room}</a> }]} />
        </Card>
        <InboxCard name={name} tenant={tenant} />
      </div>
      <Operate name={name} tenant={tenant} path={path} again={info.again} />
    </>
  );
}

/** Direct messages are private: they are read on demand only, and the log says who did. */
function InboxCard({ name, tenant }: { name: string; tenant: string }) {
  const [inbox, setInbox] = useState<Inbox | null>(null);
  return (
    <Card title="Inbox" note="Direct messages. Reading them is in the audit log." action={<Action label="Read the newest" act={async () => setInbox(await ask<Inbox>(`api/inbox${query({ user: name, tenant })}`))} />}>
      {inbox === null ? <Empty>Not read.</Empty> : inbox.problem !== "" ? <Notice tone="bad">{inbox.problem}</Notice> : (
        <Table label="Inbox" rows={inbox.messages} keyOf={({ position }) => position} empty="The inbox is empty." columns={[
          { head: "Time", cell: ({ at }) => time(at) },
          { head: "Sender", cell: ({ sender }) => sender || <span class="dim">application</span> },
          { head: "Size", isNumber: true, cell: ({ bytes: size }) => bytes(size) },
          { head: "Payload", isLong: true, cell: ({ payload }) => <code class="payload">{payload}</code> },
        ]} />
      )}
    </Card>
  );
}

function Operate({ name, tenant, path, again }: { name: string; tenant: string; path: string; again: () => void }) {
  const [asked, setAsked] = useState<"" | "disconnect" | "signOut">("");
  const [said, setSaid] = useState("");
  const end = async () => {
    const { sessions } = await ask<{ sessions: number }>(`${path}/sessions${query({ tenant, signOut: asked === "signOut" ? "true" : "" })}`, { method: "DELETE" });
    setSaid(`${sessions} sessions ended.`);
    again();
  };
  return (
    <Card title="Operate">
      <div class="actions">
        <Action label="Reconnect" act={async () => {
          const { sessions } = await ask<{ sessions: number }>(`${path}/reconnect${query({ tenant })}`, { method: "POST", body: {} });
          setSaid(`${sessions} sessions were asked to connect again. They resume.`);
        }} />
        <button type="button" class="danger" onClick={() => setAsked("disconnect")}>Disconnect…</button>
        <button type="button" class="danger" onClick={() => setAsked("signOut")}>Sign out…</button>
      </div>
      {said !== "" && <Notice tone="good">{said}</Notice>}
      <Confirm open={asked !== ""} title={asked === "signOut" ? `Sign ${name} out?` : `Disconnect ${name}?`} label={asked === "signOut" ? "Sign out" : "Disconnect"} onYes={end} onClose={() => setAsked("")}>
        <p>{asked === "signOut" ? "Ends all sessions of the user on all nodes, and rejects every token issued until now." : "Ends all sessions of the user on all nodes. With a valid token the user may connect again."}</p>
      </Confirm>
    </Card>
  );
}
