/** A load thread: opens sockets and carries out orders. */
import { readlinkSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { micros, stamp } from "./clock.ts";
import { type Answers, type Order, type Request, type Response, type Schedule, sharedWords, type WorkerData } from "./orders.ts";
import { pace } from "./pace.ts";
import { RelayEar } from "./relay.ts";
import { type DeliveryEar, Squad } from "./squad.ts";
import { TallyEar } from "./tallying.ts";

/** A publisher only has to be on time and to read one socket. */
const publisherNapMicros = 1000;
/** Ten thousand echo sockets are read between naps. */
const echoNapMicros = 200;

const { shared } = workerData as WorkerData;
// "<process>/task/<thread>", of the thread that asks.
shared[sharedWords.threadId] = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
const tally = new TallyEar(shared);
const relay = new RelayEar();
let relaying = false;
let circling = false;
let failure: Error | null = null;

const ear: DeliveryEar = {
  chunk: () => tally.chunk(),
  delivered: (socket, counter, sentAt, chained) => {
    if (relaying) relay.delivered(socket, counter, sentAt);
    else tally.delivered(socket, counter, sentAt, chained);
    if (circling) squad.conversations[socket]?.publish(counter + 1, stamp(micros()));
  },
};
const squad = new Squad(ear, (error) => (failure ??= error));

parentPort?.on("message", ({ id, order }: Request) => {
  obey(order).then(
    (answer) => respond(failure === null ? { id, answer } : { id, error: failure.message }),
    (error: unknown) => respond({ id, error: error instanceof Error ? error.message : String(error) }),
  );
});

function respond(response: Response): void {
  parentPort?.postMessage(response);
}

async function obey(order: Order): Promise<Answers[Order["kind"]]> {
  switch (order.kind) {
    case "connect":
      tally.makeRoom(squad.conversations.length + order.sockets);
      return { refused: await squad.connect(order.target, order.role, order.sockets, order.patient === true) };
    case "publish": {
      const lateness = await publish(order.schedule);
      await squad.acknowledged();
      return { lateness };
    }
    case "echo":
      return { lateness: await echo(order.schedule) };
    case "relay":
      relaying = true;
      return relay.relay(squad, order);
    case "circle":
      circling = true;
      for (const conversation of squad.conversations) conversation.publish(1, stamp(micros()));
      return null;
    case "measure":
      tally.measure(order.from, order.publishers);
      return null;
    case "stall":
      squad.stall(order.stalled);
      return null;
    case "storm":
      return squad.storm(order.withinSeconds);
    case "tally":
      return tally.tally(order.upTo ?? 0);
    case "close":
      squad.close();
      return null;
  }
}

function publish(schedule: Schedule): ReturnType<typeof pace> {
  const { before = 0, publishers = 1 } = schedule;
  const sockets = squad.conversations;
  return pace(schedule, publisherNapMicros, (n, intendedAt) => sockets[n % publishers]?.publish(before + n + 1, stamp(intendedAt)));
}

function echo(schedule: Schedule): ReturnType<typeof pace> {
  const sockets = squad.conversations;
  return pace(schedule, echoNapMicros, (n, intendedAt) => {
    sockets[n % sockets.length]?.echo(Math.floor(n / sockets.length) + 1, stamp(intendedAt));
  });
}
