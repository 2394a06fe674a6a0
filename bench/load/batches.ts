/** Publishes by the HTTP API in batches, on kept-alive connections, at a rate or as fast as answers come. */
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

export type BatchLoad = {
  port: number;
  rooms: readonly string[];
  payloadText: string;
  /** Publications per second; 0: as fast as possible. */
  rate: number;
  /** Ends after so many seconds, or so many publications. */
  seconds: number;
  publications: number;
};

export type BatchTally = { acknowledged: number; failed: number; seconds: number };

const items = 100;
const connections = 8;

export async function sendBatches({ port, rooms, payloadText, rate, seconds, publications }: BatchLoad): Promise<BatchTally> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const body = (from: number) => JSON.stringify(Array.from({ length: items }, (_, i) => ({ room: rooms[(from + i) % rooms.length]!, data: payloadText })));
  const began = performance.now();
  const endAt = began + seconds * 1000;
  let sent = 0;
  const tally = { acknowledged: 0, failed: 0, seconds: 0 };
  const lane = async (): Promise<void> => {
    while (sent < publications && performance.now() < endAt) {
      const from = sent;
      sent += items;
      if (rate > 0) {
        const dueAt = began + (from / rate) * 1000;
        if (dueAt > endAt) return;
        if (dueAt > performance.now()) await sleep(dueAt - performance.now());
      }
      const results = await post(agent, port, body(from)).catch(() => null);
      const good = results?.filter((one) => one.error === undefined).length ?? 0;
      tally.acknowledged += good;
      tally.failed += items - good;
    }
  };
  await Promise.all(Array.from({ length: connections }, lane));
  agent.destroy();
  return { ...tally, seconds: (performance.now() - began) / 1000 };
}

function post(agent: Agent, port: number, body: string): Promise<{ error?: unknown }[]> {
  return new Promise((resolve, reject) => {
    const sending = request({ agent, host: "127.0.0.1", port, method: "POST", path: "/api/v1/publications", headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) } }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => void chunks.push(chunk));
      response.on("end", () => {
        try {
          resolve((JSON.parse(Buffer.concat(chunks).toString()) as { results: { error?: unknown }[] }).results);
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    sending.on("error", reject);
    sending.end(body);
  });
}
