/** deploy/nginx.conf in front of two nodes: what reloads, restarts and kills cost, which is nothing but a reconnect. */
import t from "tap";
import { WebSocket } from "ws";
import { options } from "../src/config/config.ts";
import { startCluster } from "./support/cluster.ts";
import { startCrowd } from "./support/crowd.ts";
import { configuration, startNginx } from "./support/nginx.ts";
import { until } from "./support/until.ts";

const secret = "a-token-that-no-log-may-have";
const flawless = { lacking: 0, doubled: 0, disordered: 0, gaps: 0 };

t.test("nginx.conf waits longer than the nodes' heartbeat, takes no node out, and passes on the port of the Host", async (t) => {
  const text = configuration();
  const [heartbeat, grace] = ["heartbeatMs", "heartbeatGraceMs"].map((key) => options.find((option) => option.key === key)!.defaultText);
  const seconds = (time = "") => Number(/^(\d+)s$/.exec(time)?.[1]);
  for (const timeout of ["proxy_read_timeout", "proxy_send_timeout"]) {
    t.ok(seconds(new RegExp(`${timeout} (\\d+s);`).exec(text)?.[1]) > seconds(heartbeat) + seconds(grace), timeout);
  }
  const servers = text.split("\n").filter((line) => /^\s+server \S+:8080/.test(line));
  t.equal(servers.length, 2);
  for (const server of servers) t.match(server, / max_fails=0;$/);
  t.match(text, "proxy_set_header Host $http_host;");
});

t.test("behind it clients live through its reload and restart, a node that is restarted, and one that is killed", async (t) => {
  const cluster = await startCluster(t, { size: 2, flags: ["--drain-ms", "1s"] });
  await cluster.ready();
  const nginx = await startNginx(t, cluster.nodes.map(({ port }) => port));
  t.equal(await welcome(nginx.url, `http://127.0.0.1:${nginx.port}`), true, "a page of the balancer's own address is welcome");
  t.equal(await welcome(nginx.url, "http://elsewhere.example"), false, "and no other");

  const crowd = await startCrowd(t, nginx.url, { room: "log:all", clients: 24, publishers: 3, everyMs: 100 });
  const lossesOf = () => crowd.causes.map((causes) => [...causes.values()].reduce((sum, count) => sum + count, 0));
  const some = async () => {
    const before = crowd.acknowledged;
    await until(() => crowd.acknowledged > before + 20, "some load");
  };
  /** Something that every client notices. */
  const forAll = async (what: () => Promise<void> | void) => {
    const before = lossesOf();
    await some();
    await what();
    await until(() => lossesOf().every((count, i) => count > before[i]!), "everybody to have lost a socket");
    await crowd.ready();
  };

  await forAll(() => nginx.reload());
  await until(() => nginx.workers() === 1, "the workers of before to be gone");
  await forAll(() => nginx.restart());

  await some();
  await cluster.restart(0);
  t.equal(cluster.nodes[0]!.ended, undefined);
  await crowd.ready();

  await some();
  await cluster.nodes[1]!.kill();
  await until(() => crowd.clients.every(({ session }) => session?.node === "node-0"), "everybody to be at the node that is left");
  // Half of these are refused by the node that was killed, which nginx reports, and tried at the other.
  for (let i = 0; i < 4; i++) t.equal(await welcome(`${nginx.url}?token=${secret}`, `http://127.0.0.1:${nginx.port}`), true);
  await some();
  await cluster.restart(1);
  await cluster.ready();

  t.ok(crowd.clients.every(({ session }) => session?.resumed === true), "everybody went on with their session");
  t.match(await crowd.stop(), flawless);
  t.notMatch(nginx.accessLog(), / flux_gateway$/m, "nginx had a node for each request");
  t.match(nginx.accessLog(), / "GET \/ws" 101 \S+ 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+$/m, "and tried another where one refused");
  for (const log of [nginx.accessLog(), nginx.said()]) t.notMatch(log, secret, "no log has a token");
});

/** Whether a page of this origin is let in: asked for a session it gets one, or is closed. */
function welcome(url: string, origin: string): Promise<boolean> {
  const socket = new WebSocket(url, ["flux.v1.json"], { origin });
  return new Promise((resolve, reject) => {
    socket.on("open", () => socket.send('{"id":1,"hello":{"version":1}}'));
    socket.on("message", (data) => {
      if (!String(data).includes('"ready"')) return;
      socket.terminate();
      resolve(true);
    });
    socket.on("close", (code) => (code === 3505 ? resolve(false) : reject(new Error(`closed ${code}`))));
    socket.on("error", reject);
  });
}
