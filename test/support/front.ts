/** What stands in front of several nodes: new connections go to them in turn, past those that do not answer. */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { Test } from "tap";

export interface Front {
  readonly port: number;
  readonly url: string;
  /** Connections it has passed on, by port of the node. */
  readonly passed: ReadonlyMap<number, number>;
}

/** @param ports of the nodes there are at that time, whether they answer or not */
export async function startFront(t: Pick<Test, "teardown">, ports: () => readonly number[]): Promise<Front> {
  const passed = new Map<number, number>();
  const sockets = new Set<Socket>();
  let turn = 0;

  const pass = (client: Socket, first: number, tried: number): void => {
    const all = ports();
    const port = all[(first + tried) % all.length]!;
    const node = connect({ port, host: "127.0.0.1", noDelay: true });
    node.once("connect", () => {
      passed.set(port, (passed.get(port) ?? 0) + 1);
      sockets.add(node);
      client.pipe(node).pipe(client);
      client.once("close", () => node.destroy());
    });
    node.once("close", () => {
      const wasThere = sockets.delete(node);
      if (wasThere || tried + 1 >= all.length || client.destroyed) client.destroy();
      else pass(client, first, tried + 1);
    });
    node.on("error", () => node.destroy());
  };

  const server = createServer({ noDelay: true }, (client) => {
    sockets.add(client);
    client.on("error", () => client.destroy());
    client.once("close", () => sockets.delete(client));
    // Each goes its own way round: others that come meanwhile must not lead it to the same dead node again.
    pass(client, turn++, 0);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", 4096, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { port, passed, url: `ws://127.0.0.1:${port}/ws` };
}
