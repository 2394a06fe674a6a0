import t from "tap";
import { createMemoryBroker } from "../src/broker/memory.ts";
import { brokerContract, brokerTimeContract, type MakeBroker } from "./support/broker-contract.ts";

const implementations: { name: string; make: MakeBroker; hasClock: boolean }[] = [
  { name: "memory", hasClock: true, make: (options, deliver, clock) => createMemoryBroker({ ...options, clock }, deliver) },
];

for (const { name, make, hasClock } of implementations) {
  brokerContract(t, name, make);
  if (hasClock) brokerTimeContract(t, name, make);
}
