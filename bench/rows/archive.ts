/**
 * The archive in PostgreSQL. Catching up with a full stream is compared with plain `INSERT … SELECT unnest` of such rows into
 * the same tables with the same indexes and a cursor row, on the same server in the same run. PostgreSQL writes to disk
 * as it does by default.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { createPostgresArchive } from "../../src/archive/postgres/postgres.ts";
import { startPostgres, type TestPostgres } from "../../test/support/postgres.ts";
import { sendBatches } from "../load/batches.ts";
import { payloadBytes } from "../load/payload.ts";
import { gauge, scrape } from "../scrape.ts";
import { startServer, type ServerUnderTest } from "../servers/start.ts";
import { startNats } from "../../test/support/nats.ts";
import { resumeSecret, withTeardown, type Teardown } from "./cluster.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const rooms = Array.from({ length: 100 }, (_, i) => `logged:room${i}`);
const publications = 200_000;
const liveRate = 10_000;
const awayRate = 1_000;
const outboxRows = 10_000;
const controlBatch = 2_000;
const longMs = 600_000;
/** In JSON: with its quotes it has the bytes of the other rows. */
const payloadText = "x".repeat(payloadBytes - 2);

export const archiveRow: Row = {
  name: "archive",
  title: ({ seconds }) => `Archive: catching up with ${publications.toLocaleString("en")} publications of ${payloadBytes} bytes; live at ${liveRate.toLocaleString("en")}/s for ${seconds} s; outbox of ${outboxRows.toLocaleString("en")}`,
  servers: ["flux"],
  metrics: [
    { key: "caughtUp", title: "catching up", unit: "/s", digits: 0 },
    { key: "plain", title: "plain INSERT … unnest", unit: "/s", digits: 0 },
    { key: "share", title: "  share reached", unit: "", digits: 2 },
    { key: "without", title: `acknowledged of ${liveRate.toLocaleString("en")}/s, without archive`, unit: "/s", digits: 0 },
    { key: "with", title: "acknowledged with archive", unit: "/s", digits: 0 },
    { key: "kept", title: "  ÷ without", unit: "", digits: 2 },
    { key: "lag", title: "highest lag meanwhile", unit: "s", digits: 2 },
    { key: "outbox", title: "published from the outbox", unit: "/s", digits: 0 },
    { key: "commitMs", title: "commit to delivery, median", unit: "ms", digits: 0 },
  ],
  compared: "caughtUp",
  bars: [
    { metric: "share", of: "value", atLeast: 0.5 },
    { metric: "kept", of: "value", atLeast: 0.9 },
    { metric: "lag", of: "value", below: 1 },
    { metric: "outbox", of: "value", atLeast: 2_000 },
    { metric: "commitMs", of: "value", below: 100 },
  ],
  secondsPlanned: ({ seconds }) => 60 + 2 * seconds,
  run: (_, scale, say) => withTeardown(async (teardown) => {
    const postgres = await startPostgres({ teardown }, { durable: true });
    const { url: natsUrl } = await startNats({ teardown });
    return {
      ...(await catchUp(teardown, postgres, natsUrl, scale, say)),
      ...(await live(teardown, postgres, natsUrl, scale, say)),
      ...(await outbox(teardown, postgres, natsUrl, scale, say)),
    };
  }),
};

export const archiveAwayRow: Row = {
  name: "archive-away",
  title: ({ seconds }) => `Archive: PostgreSQL is away for ${seconds} minutes at ${awayRate.toLocaleString("en")} publications a second`,
  servers: ["flux"],
  metrics: [
    { key: "acknowledged", title: "acknowledged meanwhile", unit: "/s", digits: 0 },
    { key: "failed", title: "failed meanwhile", unit: "", digits: 0 },
    { key: "lag", title: "lag at the end", unit: "s", digits: 0 },
    { key: "alarms", title: "alarms in the log", unit: "", digits: 0 },
    { key: "caughtUp", title: "caught up at", unit: "/s", digits: 0 },
    { key: "times", title: "  × the rate", unit: "", digits: 1 },
    { key: "missing", title: "missing in the archive", unit: "", digits: 0 },
  ],
  compared: "acknowledged",
  bars: [{ metric: "failed", of: "value", never: true }, { metric: "alarms", of: "value", atLeast: 1 }, { metric: "missing", of: "value", never: true }, { metric: "times", of: "value", atLeast: 5 }],
  secondsPlanned: ({ seconds }) => 60 * seconds + 30,
  run: (_, scale, say) => withTeardown(async (teardown) => {
    const postgres = await startPostgres({ teardown }, { durable: true });
    const { url: natsUrl } = await startNats({ teardown });
    const archive = await postgres.freshUrl();
    const node = await startNode(teardown, natsUrl, "away", archive, scale, ["--archive-lag-ms", `${Math.max(60_000, 75_000 * scale.seconds)}ms`]);
    const { acknowledged: archived } = await sendBatches({ port: node.adminPort!, rooms, payloadText, rate: awayRate, seconds: 2, publications: Infinity });
    await until(async () => (await rowsIn(postgres, archive)) === archived, "the archive to be up to date");
    await postgres.stop();
    say("PostgreSQL is away", 60 * scale.seconds);
    const sent = await sendBatches({ port: node.adminPort!, rooms, payloadText, rate: awayRate, seconds: 60 * scale.seconds, publications: Infinity });
    const lag = await metric(node, "flux_archive_lag_seconds");
    const alarms = node.said!().match(/lags by more than half/g)?.length ?? 0;
    say("catching up", 10);
    const before = await metric(node, "flux_archive_rows_total");
    await postgres.start();
    const caughtUp = await rateTo(node, sent.acknowledged, before);
    const missing = archived + sent.acknowledged - (await rowsIn(postgres, archive));
    return { acknowledged: sent.acknowledged / sent.seconds, failed: sent.failed, lag, alarms, caughtUp, times: caughtUp / awayRate, missing };
  }),
};

/** PostgreSQL is away while the stream is filled, and comes then. */
async function catchUp(teardown: Teardown, postgres: TestPostgres, natsUrl: string, scale: Scale, say: Say): Promise<Values> {
  const archive = await postgres.freshUrl();
  say("filling the stream", publications / 15_000);
  const node = await startNode(teardown, natsUrl, "full", archive, scale);
  await postgres.stop();
  await sendBatches({ port: node.adminPort!, rooms, payloadText, rate: 0, seconds: 600, publications });
  await postgres.start();
  say("catching up", publications / 30_000);
  const caughtUp = await rateTo(node, publications, 0);
  await node.stop();
  say("plain INSERT … unnest", publications / 60_000);
  const plain = await plainInserts(postgres);
  return { caughtUp, plain, share: caughtUp / plain };
}

async function live(teardown: Teardown, postgres: TestPostgres, natsUrl: string, scale: Scale, say: Say): Promise<Values> {
  const load = async (title: string, prefix: string, archive: string | null) => {
    const node = await startNode(teardown, natsUrl, prefix, archive, scale);
    await sendBatches({ port: node.adminPort!, rooms, payloadText, rate: liveRate, seconds: 2, publications: Infinity });
    say(title, scale.seconds);
    let lag = 0;
    let over = false;
    const looking = archive === null ? null : (async () => {
      for (; !over; await sleep(200)) lag = Math.max(lag, await metric(node, "flux_archive_lag_seconds"));
    })();
    const sent = await sendBatches({ port: node.adminPort!, rooms, payloadText, rate: liveRate, seconds: scale.seconds, publications: Infinity });
    over = true;
    await looking;
    await node.stop();
    return { rate: sent.acknowledged / sent.seconds, lag };
  };
  const without = await load(`live at ${liveRate}/s without archive`, "without", null);
  const archived = await load(`live at ${liveRate}/s with archive`, "with", await postgres.freshUrl());
  return { without: without.rate, with: archived.rate, kept: archived.rate / without.rate, lag: archived.lag };
}

async function outbox(teardown: Teardown, postgres: TestPostgres, natsUrl: string, scale: Scale, say: Say): Promise<Values> {
  await postgres.sql("CREATE DATABASE outbox");
  const url = postgres.url().replace("/postgres", "/outbox");
  const node = await startNode(teardown, natsUrl, "outbox", null, scale, ["--outbox", url]);
  const client = await connect(teardown, url);
  await until(async () => (await client.query("SELECT to_regclass('flux.outbox') IS NOT NULL AS found")).rows[0]!.found === true, "the outbox to be made");
  const publish = (count: number) => client.query("SELECT flux.publish('logged:room' || i % 100, to_jsonb($1::text)) FROM generate_series(1, $2::int) i", [payloadText, count]);
  say("from the outbox", outboxRows / 5_000);
  const began = performance.now();
  await publish(outboxRows);
  await until(async () => Number((await client.query("SELECT count(*) FROM flux.outbox")).rows[0]!.count) === 0, "the outbox to be empty");
  const rate = outboxRows / ((performance.now() - began) / 1000);
  say("one at a time", 5);
  // A stream of server-sent events is delivered to like a member.
  const events = await fetch(`http://127.0.0.1:${node.adminPort}/api/v1/rooms/logged:one/stream`);
  const reader = events.body!.getReader();
  await reader.read();
  const waits: number[] = [];
  for (let i = 0; i < 50; i++) {
    await sleep(7 * (i % 9));
    await client.query("SELECT flux.publish('logged:one', to_jsonb($1::int))", [i]);
    const committed = performance.now();
    while (!Buffer.from((await reader.read()).value ?? []).toString().includes("data:"));
    waits.push(performance.now() - committed);
  }
  await reader.cancel();
  return { outbox: rate, commitMs: waits.sort((a, b) => a - b)[waits.length >> 1]! };
}

/** Rows per second from the first archived ones on, until so many are. */
async function rateTo(node: ServerUnderTest, count: number, before: number): Promise<number> {
  let first: { rows: number; at: number } | null = null;
  for (const endAt = performance.now() + longMs; performance.now() < endAt; await sleep(50)) {
    const rows = (await metric(node, "flux_archive_rows_total")) - before;
    const at = performance.now();
    if (rows > 0) first ??= { rows, at };
    if (rows >= count) return (rows - first!.rows) / ((at - first!.at) / 1000);
  }
  throw new Error("the archive did not catch up");
}

async function plainInserts(postgres: TestPostgres): Promise<number> {
  const url = await postgres.freshUrl();
  const archive = createPostgresArchive({ url, gateway: "bench", name: "bench" });
  await archive.tidy(Date.now(), 0);
  await archive.stop();
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query("INSERT INTO flux_streams (stream, epoch) VALUES ('S', 'e')");
  const payload = Buffer.from(JSON.stringify(payloadText));
  const began = performance.now();
  for (let from = 0; from < publications; from += controlBatch) {
    const seqs = Array.from({ length: controlBatch }, (_, i) => from + i + 1);
    const now = Date.now();
    await client.query("BEGIN");
    await client.query("UPDATE flux_streams SET seq = $1 WHERE stream = 'S' AND seq = $2", [from + controlBatch, from]);
    await client.query(
      `INSERT INTO flux_publications (stream, epoch, seq, at, tenant, room, sender, published, format, key, data)
       SELECT 'S', 'e', * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::smallint[], $8::text[], $9::bytea[])`,
      [seqs, seqs.map(() => new Date(now)), seqs.map(() => ""), seqs.map((seq) => rooms[seq % rooms.length]!), seqs.map(() => ""), seqs.map(() => new Date(now)), seqs.map(() => 1), seqs.map(() => ""), seqs.map(() => payload)],
    );
    await client.query("COMMIT");
  }
  const seconds = (performance.now() - began) / 1000;
  await client.end();
  return publications / seconds;
}

async function startNode(teardown: Teardown, natsUrl: string, prefix: string, archive: string | null, { profileDir }: Scale, more: readonly string[] = []): Promise<ServerUnderTest> {
  const logged = { durable: true, publish: "anyone", ...(archive !== null && { archive: true }) };
  const flags = ["--nats", natsUrl, "--resume-secret", resumeSecret, "--nats-prefix", prefix, ...(archive === null ? [] : ["--archive", archive]), "--namespaces", JSON.stringify({ logged }), ...more];
  const node = await startServer("flux", { reactors: 1, profileDir, isGuarded: false, flags });
  teardown(() => node.stop());
  return node;
}

async function metric({ adminPort }: ServerUnderTest, name: string): Promise<number> {
  return gauge(await scrape(adminPort!), name);
}

async function rowsIn(postgres: TestPostgres, url: string): Promise<number> {
  return Number((await postgres.sql("SELECT count(*) FROM flux_publications", [], url))[0]!.count);
}

async function connect(teardown: Teardown, url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  teardown(() => client.end());
  return client;
}

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (const endAt = performance.now() + longMs; performance.now() < endAt; await sleep(20)) if (await condition()) return;
  throw new Error(`waited in vain for ${what}`);
}
