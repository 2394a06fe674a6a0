/**
 * Sends requests on many connections, kept alive, one at a time on each: as fast as answers come, or at a rate. It makes the bytes of a request once and
 * only counts in what comes back, so that the load costs less than the server.
 */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface HttpLoad {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly body: string;
  /** API key. Default: none. */
  readonly key?: string | undefined;
  readonly connections: number;
  /** Requests a second of all connections together. Default: as many as are answered. */
  readonly rate?: number;
  readonly seconds: number;
  /** Before the count begins. */
  readonly warmUpSeconds: number;
  /** Called when the count begins. */
  readonly onBegin: () => void;
}

const head = Buffer.from("HTTP/1.1 20");

/** @returns answered requests, and the seconds that they took. */
export async function sendHttp({ host, port, path, body, key, connections, rate, seconds, warmUpSeconds, onBegin }: HttpLoad): Promise<{ requests: number; seconds: number }> {
  const authorization = key === undefined ? "" : `Authorization: Bearer ${key}\r\n`;
  const request = Buffer.from(
    `POST ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\n${authorization}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  let answered = 0;
  let sent = 0;
  let isOver = false;
  /** Connections without a request. */
  const idle: Socket[] = [];
  const next = (socket: Socket): void => {
    if (rate !== undefined) return void idle.push(socket);
    socket.write(request);
  };
  let failure: Error | null = null;
  const open = (): Socket => {
    const socket = connect({ host, port, noDelay: true }, () => next(socket));
    let rest: Buffer = nothing;
    socket.on("error", (error) => (failure ??= error));
    socket.on("close", () => void (isOver || (failure ??= new Error("the server closed a connection"))));
    socket.on("data", (chunk: Buffer) => {
      const answer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      if (!isWhole(answer)) return void (rest = answer);
      rest = nothing;
      if (!answer.subarray(0, head.length).equals(head)) failure ??= new Error(answer.toString("latin1", 0, 300));
      answered++;
      if (!isOver && failure === null) next(socket);
    });
    return socket;
  };
  const sockets = Array.from({ length: connections }, open);
  const startedAt = performance.now();
  const pace = setInterval(() => {
    const due = Math.floor(((performance.now() - startedAt) * (rate ?? 0)) / 1_000);
    for (; sent < due && idle.length > 0; sent++) idle.pop()!.write(request);
  }, paceMs);
  try {
    await sleep(warmUpSeconds * 1_000);
    const before = answered;
    const from = performance.now();
    onBegin();
    await sleep(seconds * 1_000);
    const measured = { requests: answered - before, seconds: (performance.now() - from) / 1_000 };
    if (failure !== null) throw failure as Error;
    if (measured.requests === 0) throw new Error("no answer came");
    return measured;
  } finally {
    isOver = true;
    clearInterval(pace);
    for (const socket of sockets) socket.destroy();
  }
}

const paceMs = 2;
const nothing = Buffer.alloc(0);
const blank = Buffer.from("\r\n\r\n");
const lengthName = Buffer.from("Content-Length: ");

/** Whether the head and as many bytes as it says are there. */
function isWhole(answer: Buffer): boolean {
  const end = answer.indexOf(blank);
  if (end < 0) return false;
  const at = answer.indexOf(lengthName) + lengthName.length;
  let length = 0;
  for (let i = at; answer[i]! >= 0x30 && answer[i]! <= 0x39; i++) length = length * 10 + answer[i]! - 0x30;
  return answer.length >= end + blank.length + length;
}
