import t from "tap";
import { createMemorySessions } from "../src/sessions/memory.ts";
import { sessionsContract, type MakeSessions } from "./support/sessions-contract.ts";

const implementations: { name: string; make: MakeSessions }[] = [
  { name: "memory", make: (options, clock) => createMemorySessions({ ...options, clock }) },
];

for (const { name, make } of implementations) sessionsContract(t, name, make);
