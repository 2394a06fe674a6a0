/**
 * Fan-out of other servers at the same rates, in text formats: each with one thread for its work, each with its own
 * framing around the same payload of 128 bytes. Those without a framing of their own send as many bytes as flux-gateway.
 */
import { warmUpSecondsPlanned } from "./crew.ts";
import { fanOut } from "./fanout.ts";
import type { Row } from "./row.ts";
import { equalRate, speedMetrics } from "./speed.ts";

const publishers = 10;

export const peerRows: readonly Row[] = [peerRow(100, 100), peerRow(1000, 50), peerRow(1000, 100)];

function peerRow(members: number, rate: number): Row {
  return {
    name: `peers-${members}-${rate}`,
    servers: ["flux", "uws", "ws", "socketio", "nats", "nchan", "centrifugo"],
    title: () => `Peers: ${members.toLocaleString("en")} members × ${rate}/s, 128 bytes, ${publishers} publishers`,
    metrics: speedMetrics,
    compared: "cpuMicros",
    equalRate,
    bars: [],
    secondsPlanned: ({ seconds }) => 4 + warmUpSecondsPlanned + members / 1000 + seconds,
    run: (server, scale, say) => fanOut(server, { format: "json", rate, publishers }, { ...scale, members }, say),
  };
}
