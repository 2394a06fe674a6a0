/** An endpoint of webhooks, as tests want it: it verifies each message, and answers what the test says. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Test } from "tap";
import { hookSecret } from "./hookbackend.ts";

/** The library that receivers use. */
const { Webhook } = (await import("standardwebhooks" as string)) as { Webhook: new (secret: string) => { verify(body: string, headers: Record<string, string>): unknown } };

export interface Received {
  readonly path: string;
  readonly id: string;
  readonly type: string;
  readonly timestamp: string;
  readonly data: { readonly room?: string; readonly user?: string; readonly session?: string; readonly users?: number; readonly tenant?: string; readonly epoch: string; readonly number: number };
}

type Answer = number | ((message: Received, response: ServerResponse, request: IncomingMessage) => void);

export interface Receiver {
  readonly url: string;
  /** What was answered with 2xx, in the order in which it came. */
  readonly taken: Received[];
  /** Every message, also those that were not taken. */
  readonly asked: Received[];
  /** Status of the answers from here on, or a function that answers itself. */
  answer: Answer;
  /** "room.occupied chat:a", "member.joined chat:a ann", of what was taken at this path. */
  said(path?: string): string[];
}

export async function startReceiver(t: Pick<Test, "teardown">, secret = hookSecret): Promise<Receiver> {
  const server = createServer(async (request, response) => {
    response.on("error", () => {});
    let body = "";
    for await (const piece of request) body += String(piece);
    new Webhook(secret).verify(body, request.headers as Record<string, string>);
    const message = { path: request.url ?? "", id: String(request.headers["webhook-id"]), ...(JSON.parse(body) as object) } as Received;
    receiver.asked.push(message);
    const { answer } = receiver;
    if (typeof answer === "function") return answer(message, response, request);
    if (answer < 300) receiver.taken.push(message);
    response.writeHead(answer).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const receiver: Receiver = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    taken: [],
    asked: [],
    answer: 204,
    said: (path) => receiver.taken.filter((one) => path === undefined || one.path === path).map(said),
  };
  return receiver;
}

export function said({ type, data: { room, user } }: Received): string {
  return [type, room, user].filter((part) => part !== undefined).join(" ");
}
