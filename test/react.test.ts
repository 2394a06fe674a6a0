/** The hooks without a browser: their stores, and rendering on a server. In Chromium: test/long/recipes.test.ts. */
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import t from "tap";
import { FluxProvider, useClient, useConnectionState, usePresence, useRoom, useStatus } from "../src/client/react.ts";
import { LiveStore } from "../src/client/react/store.ts";
import { until } from "./support/until.ts";

function counted(): { store: LiveStore<number>; began: () => number; ended: () => number; set: (value: number) => void } {
  let [began, ended] = [0, 0];
  let set: (value: number) => void = () => {};
  const store = new LiveStore<number>(0, (give) => {
    began++;
    set = give;
    return () => void ended++;
  });
  return { store, began: () => began, ended: () => ended, set: (value) => set(value) };
}

t.test("a store begins with its first subscriber, and ends after its last one, not between two of one turn", async (t) => {
  const { store, began, ended } = counted();
  store.subscribe(() => {})(); // as StrictMode does
  const off = [store.subscribe(() => {}), store.subscribe(() => {})];
  await new Promise((resolve) => setTimeout(resolve, 0));
  t.same([began(), ended()], [1, 0]);
  off[0]!();
  await new Promise((resolve) => setTimeout(resolve, 0));
  t.same([began(), ended()], [1, 0], "one is left");
  off[1]!();
  off[1]!();
  await until(() => ended() === 1, "the end");
  store.subscribe(() => {});
  t.same([began(), ended()], [2, 1], "and begins again");
});

t.test("many changes of a turn are told once, and the last is read", async (t) => {
  const { store, set } = counted();
  let told = 0;
  store.subscribe(() => told++);
  for (let n = 1; n <= 100; n++) set(n);
  t.same([store.getSnapshot(), told], [100, 0]);
  await Promise.resolve();
  t.equal(told, 1);
  set(101);
  await Promise.resolve();
  t.same([store.getSnapshot(), told], [101, 2]);
});

t.test("a listener that was removed is not told", async (t) => {
  const { store, set } = counted();
  let told = 0;
  const off = store.subscribe(() => told++);
  store.subscribe(() => {});
  set(1);
  off();
  await Promise.resolve();
  t.equal(told, 0);
});

t.test("a server renders without a client, and makes none", async (t) => {
  const Page = () => {
    const { publications, status } = useRoom("chat:a");
    const { users } = usePresence("chat:a");
    const text = JSON.stringify([useClient(), useConnectionState().state, publications, status, users, useStatus(["ann"])]);
    return createElement("p", null, text);
  };
  const connect = () => t.fail("no socket on a server") as never;
  const html = renderToString(createElement(FluxProvider, { connect }, createElement(Page)));
  t.equal(html.replaceAll("&quot;", '"'), '<p>[null,"connecting",[],"joining",0,{}]</p>');
});
