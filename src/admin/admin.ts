/**
 * The admin port: metrics, which sessions are slow, which nodes there are, what they say when they are all asked, ending a user's sessions, and the node's own end. Served by the main thread, apart from
 * clients, on loopback unless told otherwise.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import { serveDisconnect, type Disconnect } from "./disconnect.ts";
import { serveDrain, type Drains } from "./drain.ts";
import { strangeHost } from "./host.ts";
import { serveSurvey, type Ask } from "./survey.ts";

export interface Admin {
  readonly port: number;
  close(): Promise<void>;
}

/** What is served. */
export interface Served {
  readonly metrics: Registry;
  readonly slow: () => unknown;
  readonly disconnect: Disconnect;
  readonly drains: Drains;
  /** All nodes of the gateway, as this one knows them. */
  readonly nodes: () => object;
  readonly survey: Ask;
}

/** @throws what `listen` throws, with its `code`. */
export async function startAdmin(host: string, port: number, { metrics, slow, disconnect, drains, nodes, survey }: Served): Promise<Admin> {
  const server = createServer((req, res) => {
    const path = req.url?.split("?")[0];
    if (path === "/disconnect") {
      if (req.method !== "POST") res.writeHead(405, { Allow: "POST" }).end("only POST\n");
      else serveDisconnect(req, res, disconnect).catch((error: unknown) => res.writeHead(500).end(`${String(error)}\n`));
    } else if (path === "/drain") {
      serveDrain(req, res, drains).catch((error: unknown) => res.destroy(error instanceof Error ? error : new Error(String(error))));
    } else if (req.method !== "GET" && req.method !== "HEAD") {
      res.writeHead(405, { Allow: "GET, HEAD" }).end("only GET\n");
    } else if (path === "/metrics") {
      metrics.metrics().then(
        (text) => res.writeHead(200, { "Content-Type": metrics.contentType }).end(text),
        (error: unknown) => res.writeHead(500).end(`${String(error)}\n`),
      );
    } else if (path === "/slow" || path === "/nodes") {
      // They name users and addresses, which is nothing for a page whose host was pointed to this machine.
      const problem = strangeHost(req);
      const said = path === "/slow" ? { sessions: slow() } : nodes();
      if (problem !== null) res.writeHead(403).end(`${problem}\n`);
      else res.writeHead(200, { "Content-Type": "application/json" }).end(`${JSON.stringify(said, null, 2)}\n`);
    } else if (path === "/survey") {
      serveSurvey(req, res, survey).catch((error: unknown) => res.writeHead(500).end(`${String(error)}\n`));
    } else if (path === "/") {
      res.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" }).end("flux-gateway admin: /metrics, /slow, /nodes, /survey, POST /disconnect, /drain\n");
    } else {
      res.writeHead(404).end("not found\n");
    }
  });
  await listening(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve());
  });
}
