/** The page: who is logged in, where one is, and the views. */
import "./style.css";
import { render, type ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { ask, session, whoAmI } from "./api.ts";
import { Backend } from "./backend.tsx";
import { live, problem, startLive } from "./live.ts";
import { Login } from "./login.tsx";
import { NodeView } from "./node.tsx";
import { Overview } from "./overview.tsx";
import { messageOf, Notice } from "./parts.tsx";
import { Placement } from "./placement.tsx";
import { Rooms, RoomView } from "./rooms.tsx";
import { href, route } from "./route.ts";
import { Settings } from "./settings.tsx";
import { Slow } from "./slow.tsx";
import { Users, UserView } from "./users.tsx";

const views: readonly (readonly [view: string, title: string])[] = [
  ["overview", "Overview"], ["rooms", "Rooms"], ["users", "Users"], ["slow", "Slow readers"], ["placement", "Placement"], ["backend", "Backend"], ["settings", "Configuration"],
];

function View(): ComponentChildren {
  const { view, name, tenant } = route.value;
  switch (view) {
    case "nodes": return <NodeView key={name} name={name} />;
    case "rooms": return name === "" ? <Rooms /> : <RoomView key={`${tenant} ${name}`} name={name} tenant={tenant} />;
    case "users": return name === "" ? <Users /> : <UserView key={`${tenant} ${name}`} name={name} tenant={tenant} />;
    case "slow": return <Slow />;
    case "placement": return <Placement />;
    case "backend": return <Backend />;
    case "settings": return <Settings />;
    default: return <Overview />;
  }
}

function App() {
  const known = session.value;
  if (known === undefined) return problem.value === "" ? <p class="empty">Loading…</p> : <main><Notice tone="bad">{problem.value}</Notice></main>;
  if (known === null) return <Login />;
  const current = ["nodes", "reasons"].includes(route.value.view) ? "overview" : route.value.view;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.querySelector("main")?.focus(); }}>Skip to the content</a>
      <header class="top">
        <a class="brand" href={href("overview")}><img src="/dashboard/icon.svg" alt="" width="24" height="24" />flux-gateway</a>
        <span class="where">{known.node}</span>
        <Pulse />
        {known.open ? null : <button type="button" class="quiet" onClick={() => void ask("logout", { method: "POST", body: {} }).finally(() => (session.value = null))}>Log out <span class="dim">{known.name}</span></button>}
      </header>
      <Nav current={current} />
      <main id="main" tabIndex={-1}>
        {known.open && <Notice tone="warn"><strong>This admin port is open.</strong> Every program on this machine can use it. Set <code>--admin-key</code>.</Notice>}
        {problem.value !== "" && <Notice tone="bad">{problem.value} What is shown may be old.</Notice>}
        <View />
      </main>
    </div>
  );
}

function Nav({ current }: { current: string }) {
  // On a phone the views are a row that scrolls.
  useEffect(() => document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest" }), [current]);
  return (
    <nav class="side" aria-label="Views">
      {views.map(([view, title]) => <a key={view} href={href(view)} {...(view === current && { "aria-current": "page" as const })}>{title}</a>)}
    </nav>
  );
}

function Pulse() {
  const isLive = problem.value === "" && live.value !== null;
  return <span class={`pulse ${isLive ? "good" : "bad"}`} role="status">{isLive ? "live" : "no connection"}</span>;
}

whoAmI().catch((error: unknown) => (problem.value = messageOf(error)));
startLive();
render(<App />, document.getElementById("app")!);
