import t from "tap";
import { createMemoryPresence } from "../src/presence/memory.ts";
import { presenceContract, type MakePresence } from "./support/presence-contract.ts";

const implementations: { name: string; make: MakePresence }[] = [
  { name: "memory", make: (options, events, clock) => createMemoryPresence({ ...options, clock }, events) },
];

for (const { name, make } of implementations) presenceContract(t, name, make);
