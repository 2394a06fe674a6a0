/** A TCP proxy that does to a connection what networks do: cut it, stall it, slow it down. */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { Test } from "tap";

export type Direction = "toNode" | "toClient";

export type Proxy = {
  readonly port: number;
  /** ws://127.0.0.1:PORT/ws by way of the proxy. */
  readonly url: string;
  /** Connections there are, and those there were altogether. */
  readonly open: number;
  readonly accepted: number;
  /** Ends every connection at once, on both sides, without a close frame. What was held is lost. */
  cut(): void;
  /** From now on bytes of this direction are held, in all connections. Nobody is told. */
  pause(direction: Direction): void;
  resume(direction: Direction): void;
  /** Every chunk takes so much longer. */
  delay(ms: number): void;
  /** New connections are ended at once. */
  refuse(refusing: boolean): void;
};

export async function startProxy(t: Pick<Test, "teardown">, targetPort: number): Promise<Proxy> {
  const paused = { toNode: false, toClient: false };
  const pairs = new Set<() => void>();
  const pumps = new Map<Direction, Set<() => void>>([["toNode", new Set()], ["toClient", new Set()]]);
  let delayMs = 0;
  let refusing = false;
  let accepted = 0;

  /** Moves bytes from one socket to the other; a queue keeps their order while they wait. */
  function pump(from: Socket, to: Socket, direction: Direction): void {
    const queue: { bytes: Buffer; dueAt: number }[] = [];
    const flush = () => {
      if (paused[direction] || to.destroyed) return;
      for (let first = queue[0]; first !== undefined; first = queue[0]) {
        const waitMs = first.dueAt - performance.now();
        if (waitMs > 0) return void setTimeout(flush, waitMs);
        to.write(first.bytes);
        queue.shift();
      }
    };
    from.on("data", (bytes: Buffer) => {
      queue.push({ bytes, dueAt: performance.now() + delayMs });
      flush();
    });
    pumps.get(direction)?.add(flush);
    from.on("close", () => pumps.get(direction)?.delete(flush));
  }

  const server = createServer((client) => {
    accepted++;
    if (refusing) return client.destroy();
    const node = connect({ port: targetPort, host: "127.0.0.1", noDelay: true });
    client.setNoDelay(true);
    const destroy = () => {
      pairs.delete(destroy);
      client.destroy();
      node.destroy();
    };
    pairs.add(destroy);
    for (const socket of [client, node]) socket.on("error", destroy).on("close", destroy);
    pump(client, node, "toNode");
    pump(node, client, "toClient");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => [...pairs].forEach((destroy) => destroy());
  t.teardown(() => {
    cut();
    server.close();
  });

  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `ws://127.0.0.1:${port}/ws`,
    get open() {
      return pairs.size;
    },
    get accepted() {
      return accepted;
    },
    cut,
    pause: (direction) => {
      paused[direction] = true;
    },
    resume: (direction) => {
      paused[direction] = false;
      for (const flush of pumps.get(direction) ?? []) flush();
    },
    delay: (ms) => {
      delayMs = ms;
    },
    refuse: (value) => {
      refusing = value;
    },
  };
}
