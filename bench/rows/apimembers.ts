/**
 * Members of a room while a backend publishes 3,000 times a second into another room by the HTTP API, which is served on
 * the main thread, where the order of all rooms is made. The same members without the backend are the control.
 */
import { freePort } from "../../src/node/ports.ts";
import { sendHttp } from "../load/http.ts";
import { fanOut } from "./fanout.ts";
import type { Row, Scale } from "./row.ts";

const members = 200;
const messagesPerSecond = 100;
const publishesPerSecond = 3_000;
const connections = 64;
const body = JSON.stringify({ data: { text: "x".repeat(107) } });
const host = "127.0.0.1";

export const apiMembersRow: Row = {
  name: "api-members",
  title: () => `${members} members, ${messagesPerSecond} messages/s, while the HTTP API publishes ${publishesPerSecond.toLocaleString("en")}/s into another room`,
  servers: ["flux"],
  metrics: [
    { key: "alone", title: "p99 without the API", unit: "ms", digits: 1 },
    { key: "p99", title: "p99", unit: "ms", digits: 1 },
    { key: "ratio", title: "  ÷ without the API", unit: "", digits: 2 },
    { key: "p50", title: "p50", unit: "ms", digits: 2 },
    { key: "published", title: "published by the API", unit: "/s", digits: 0 },
    { key: "lost", title: "lost", unit: "", digits: 0 },
    { key: "serverCores", title: "server", unit: "cores", digits: 2 },
  ],
  compared: "p99",
  bars: [
    { metric: "ratio", of: "value", atMost: 2 },
    { metric: "lost", of: "value", never: true },
  ],
  secondsPlanned: ({ seconds }) => 2 * (seconds + 10),
  run: async (name, scale, say) => {
    const few: Scale = { ...scale, members };
    const alone = await fanOut(name, { format: "binary", rate: messagesPerSecond }, few, say);
    const port = await freePort();
    let published = 0;
    const beside = async (seconds: number) => {
      const path = "/api/v1/rooms/live:other/publications";
      const sent = await sendHttp({ host, port, path, body, connections, rate: publishesPerSecond, seconds, warmUpSeconds: 0, onBegin: () => undefined });
      published = sent.requests / sent.seconds;
    };
    const loaded = await fanOut(name, { format: "binary", rate: messagesPerSecond, flags: ["--api-port", String(port)], beside }, few, say);
    return { ...loaded, alone: alone.p99!, ratio: loaded.p99! / alone.p99!, published };
  },
};
