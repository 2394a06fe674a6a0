/** A page with every hook, twice for the room, in StrictMode. Bundled for each version of React by test/long/recipes.test.ts. */
import { createElement as h, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "../../../src/client/index.ts";
import { FluxProvider, useClient, useConnectionState, usePresence, useRoom, useStatus } from "../../../src/client/react.ts";

globalThis.renderings = 0;

function Room({ name }) {
  globalThis.renderings++;
  const { publications, status, gap, error, publish } = useRoom(name, { history: 20, keep: 30 });
  globalThis.publish = publish;
  return h("section", null,
    h("p", { className: "status" }, status),
    h("p", { className: "count" }, String(publications.length)),
    gap && h("p", { className: "gap" }, `${gap.from.seq} to ${gap.to.seq}`),
    error && h("p", { className: "error" }, error.code),
    h("ol", null, publications.map(({ position, data }) => h("li", { key: position.seq }, data.text))));
}

function People({ name }) {
  const { members, users, isLoaded } = usePresence(name);
  const { state } = useConnectionState();
  const client = useClient();
  const own = client?.session?.user;
  const statuses = useStatus(own ? [own, "nobody"] : []);
  return h("section", null,
    h("p", { id: "state" }, state),
    h("p", { id: "people" }, isLoaded ? `${users}: ${members.map(({ user }) => user).join()}` : "…"),
    h("p", { id: "online" }, JSON.stringify(Object.values(statuses).map(({ online }) => online).sort())));
}

function App() {
  const [name, setName] = useState("chat:react");
  const [isOpen, setOpen] = useState(true);
  globalThis.setName = setName;
  globalThis.setOpen = setOpen;
  return h(StrictMode, null, h(FluxProvider, { connect: makeClient }, isOpen && h(Room, { name }), isOpen && h(Room, { name }), h(People, { name })));
}

function makeClient() {
  globalThis.clients = (globalThis.clients ?? 0) + 1;
  const client = connect(globalThis.address, { storage: null });
  const join = client.join.bind(client);
  globalThis.joins = [];
  client.join = (name, options) => {
    globalThis.joins.push(name);
    return join(name, options);
  };
  return client;
}

createRoot(document.getElementById("root")).render(h(App));
