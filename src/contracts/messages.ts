/** Contract of messages between nodes, clause by clause of src/messages/messages.ts. Run over each implementation. */
import type { Test } from "tap";
import type { MessageEvents, NodeMessage, NodeMessages } from "../messages/messages.ts";
import { until } from "./until.ts";

/** A gateway that the nodes of one test join. */
export interface Speaking {
  join(id: string, events: MessageEvents): NodeMessages | Promise<NodeMessages>;
  /** Whether several nodes can join. */
  readonly shared: boolean;
  /** Makes messages fail, and resolves once every node has noticed. Call the result to end the outage. */
  away?(): Promise<() => unknown>;
}

interface Told {
  readonly messages: NodeMessages;
  readonly received: NodeMessage[];
}

const taken = (session: string): NodeMessage => ({ kind: "taken", session, generation: 1 });
const disconnect = (user: string): NodeMessage => ({ kind: "disconnect", tenant: "", user, signedOutAt: 1_700_000_000_000 });
/** Two messages that may be lost. */
const question: NodeMessage = { kind: "question", question: { kind: "room", room: "chat:\u{1f40c} *" }, replyTo: { node: "a", survey: "1" } };
const drain: NodeMessage = { kind: "drain", started: 1 };

export function messagesContract(t: Test, name: string, make: (t: Test) => Speaking | Promise<Speaking>): void {
  const start = async (t: Test, ids: readonly string[]) => {
    const gateway = await make(t);
    const nodes: Told[] = [];
    for (const id of gateway.shared ? ids : ids.slice(0, 1)) {
      const received: NodeMessage[] = [];
      const messages = await gateway.join(id, { received: (message) => void received.push(message) });
      t.teardown(() => messages.stop());
      nodes.push({ messages, received });
    }
    return { gateway, nodes };
  };
  let ends = 0;
  /** Checks that the nodes received these messages, in any order, and nothing else before the next one. */
  const have = async (t: Test, nodes: readonly Told[], from: Told, wanted: readonly NodeMessage[], what: string) => {
    const end = taken(`end${ends++}`);
    await until(() => nodes.every(({ received }) => received.length >= wanted.length), what);
    from.messages.sendAll(end);
    await until(() => nodes.every(({ received }) => received.some((message) => said(message) === said(end))), "one more");
    for (const { received } of nodes) t.strictSame(received.map(said).sort(), [...wanted, end].map(said).sort(), what);
    return end;
  };

  t.test(`${name}: what is for one node is told to that one, once, as it was said`, async (t) => {
    const { nodes: [a, b, c] } = await start(t, ["a", "b", "c"]);
    a!.messages.send("nobody", drain);
    a!.messages.send("b", question);
    a!.messages.send("b", taken("s"));
    if (b === undefined || c === undefined) return t.same(a!.received, [], "a node alone has no others");
    const toOthers = await have(t, [b], a!, [question, taken("s")], "the one has both");
    const toAll = await have(t, [c], b, [toOthers], "another has what was for all, and no more");
    await until(() => a!.received.length > 0, "what the second has said");
    t.strictSame(a!.received.map(said), [said(toAll)], "who has said it has nothing of it");
  });

  t.test(`${name}: what is for all is told to each of the others once, and not to who says it`, async (t) => {
    const { nodes: [a, ...others] } = await start(t, ["a", "b", "c"]);
    const all = [question, drain, disconnect("ann"), taken("s")];
    for (const message of all) a!.messages.sendAll(message);
    a!.messages.send("a", taken("oneself"));
    await have(t, others, a!, all, "each has all of them");
    t.same(a!.received, []);
  });

  t.test(`${name}: one that has stopped is told nothing`, async (t) => {
    const { nodes: [a, b, c] } = await start(t, ["a", "b", "c"]);
    if (b === undefined || c === undefined) return t.pass("a node alone has no others");
    await b.messages.stop();
    a!.messages.sendAll(drain);
    await have(t, [c], a!, [drain], "who has not is");
    t.same(b.received, []);
  });

  t.test(`${name}: what has to hold is told when it can be again, and nothing else`, async (t) => {
    const { gateway, nodes: [a, b] } = await start(t, ["a", "b"]);
    if (gateway.away === undefined || b === undefined) return t.pass("nothing is ever away");
    const back = await gateway.away();
    for (const message of [question, drain, disconnect("ann")]) a!.messages.sendAll(message);
    a!.messages.send("b", taken("s"));
    a!.messages.send("b", drain);
    await back();
    await until(() => b.received.length >= 2, "both that have to hold");
    a!.messages.sendAll(question);
    await until(() => b.received.some(({ kind }) => kind === "question"), "what is said now");
    t.same(b.received.map(({ kind }) => kind).sort(), ["disconnect", "question", "taken"]);
    t.match(b.received.find(({ kind }) => kind === "disconnect"), { user: "ann", signedOutAt: 1_700_000_000_000 });
  });
}

function said(message: NodeMessage): string {
  return JSON.stringify(Object.entries(message).sort());
}
