import t from "tap";
import { createDiskSessions } from "../src/sessions/disk.ts";
import { createMemorySessions } from "../src/sessions/memory.ts";
import { sessionsContract, type MakeSessions } from "./support/sessions-contract.ts";

const quiet = { info() {}, warn() {}, error() {} };
const implementations: { name: string; make: MakeSessions }[] = [
  { name: "memory", make: (options, clock) => createMemorySessions({ ...options, clock }) },
  {
    name: "disk",
    make: (options, clock, t) =>
      createDiskSessions({ ...options, clock, folder: t.testdir(), sync: true, uncommittedBytesMax: 1024 * 1024, log: quiet }),
  },
];

for (const { name, make } of implementations) sessionsContract(t, name, make);
