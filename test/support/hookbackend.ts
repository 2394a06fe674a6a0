/** The application's backend, as tests want it: it verifies each question, and answers what the test says. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Test } from "tap";
import { until } from "./until.ts";

/** The library that receivers use. */
const { Webhook } = (await import("standardwebhooks" as string)) as { Webhook: new (secret: string) => { verify(body: string, headers: Record<string, string>): unknown } };

export const hookSecret = `whsec_${Buffer.from("0123456789abcdef0123456789abcdef").toString("base64")}`;

export interface Asked {
  readonly path: string;
  readonly id: string;
  readonly question: Record<string, unknown>;
  readonly verified: boolean;
}

type Answer = object | ((question: Record<string, unknown>, res: ServerResponse, req: IncomingMessage) => object | void | Promise<object | void>);

export interface HookBackend {
  readonly url: string;
  /** Every question, in the order in which they came. */
  readonly asked: Asked[];
  /** Connections that were opened. */
  connections: number;
  /** From now on questions at this path are answered so. A function may write the answer itself. */
  answer(path: string, answer: Answer): void;
  of(path: string): Asked[];
  /** Questions at this path wait, from now on. */
  hold(path: string): Held;
}

export interface Held {
  /** Waits until so many wait. */
  waiting(count: number): Promise<void>;
  /** Answers those that wait, and later ones. */
  release(answer: object): void;
}

export async function startHookBackend(t: Pick<Test, "teardown">, secret = hookSecret): Promise<HookBackend> {
  const answers = new Map<string, Answer>();
  const asked: Asked[] = [];
  const server = createServer(async (req, res) => {
    res.on("error", () => {});
    let body = "";
    for await (const piece of req) body += String(piece);
    const path = req.url ?? "";
    const question = JSON.parse(body) as Record<string, unknown>;
    asked.push({ path, id: String(req.headers["webhook-id"]), question, verified: verifies(secret, body, req) });
    const answer = answers.get(path) ?? { allow: true };
    const said = typeof answer === "function" ? await answer(question, res, req) : answer;
    if (said !== undefined) res.setHeader("content-type", "application/json").end(JSON.stringify(said));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const backend: HookBackend = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    connections: 0,
    answer: (path, answer) => void answers.set(path, answer),
    of: (path) => asked.filter((one) => one.path === path),
    hold: (path) => {
      const held: ((answer: object) => void)[] = [];
      answers.set(path, () => new Promise<object>((resolve) => held.push(resolve)));
      return {
        waiting: (count) => until(() => held.length >= count, `${count} questions`),
        release: (answer) => {
          answers.set(path, answer);
          for (const one of held.splice(0)) one(answer);
        },
      };
    },
  };
  server.on("connection", () => backend.connections++);
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return backend;
}

function verifies(secret: string, body: string, { headers }: IncomingMessage): boolean {
  try {
    new Webhook(secret).verify(body, headers as Record<string, string>);
    return true;
  } catch {
    return false; // the test says what it expected
  }
}
