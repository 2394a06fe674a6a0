import t from "tap";
import { ConfigError, isLoopback, jsonValue, options, resolveConfig, showValue, type Given } from "../src/config/config.ts";
import { nearest } from "../src/config/sources.ts";

/** The problems that resolving tells of, none if it succeeds. */
function problemsOf(given: Given): readonly string[] {
  try {
    resolveConfig(given);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

/** What a namespace has where nothing else is given; the second one tells nobody who is there. */
const present = { publish: "members", presence: "members", presenceEvents: true, slowReaders: "disconnect", flushMs: 0, hookJoin: "", hookPublish: "", hookOnFailure: "deny" };
const usual = { ...present, presence: "nobody", presenceEvents: false };
const file = (values: unknown) => ({ name: "flux.json", values });
const unchecked = (values: Record<string, unknown>) => values as NonNullable<Given["options"]>;

t.test("without anything given every option has its documented default", async (t) => {
  const { config, sources } = resolveConfig();
  t.match(config, {
    host: "127.0.0.1",
    port: 8080,
    adminHost: "127.0.0.1",
    adminPort: 8081,
    demo: true,
    allowAnonymous: false,
    allowedOrigins: [],
    handshakeTimeoutMs: 30_000,
    heartbeatMs: 25_000,
    heartbeatGraceMs: 10_000,
    frameBytesMax: 65_536,
    commandsPerSecond: 500,
    ringBytes: 4_194_304,
  });
  t.ok(config.reactors >= 1);
  t.match(config.nodeId, /^node-[0-9a-f]{8}$/);
  t.same(config.namespaces, {
    chat: { durable: true, historySize: 1000, historyTtlMs: 86_400_000, historyBytesMax: 16_777_216, archive: false, archiveRecovery: false, ...present },
    live: { durable: false, ...usual },
    default: { durable: false, ...usual },
  });
  for (const { key } of options) {
    if (key !== "namespaces") t.equal(sources.get(key)?.rank, "default", key);
  }
  t.equal(sources.get("namespaces.chat.historySize")?.rank, "default");
});

t.test("a source that counts more wins over one that counts less, for every pair of them", async (t) => {
  const given = {
    flag: { flags: { port: "1001" } },
    option: { options: { port: 1002 } },
    environment: { env: { FLUX_PORT: "1003" } },
    file: { file: file({ port: 1004 }) },
    default: {},
  } as const;
  const ports = { flag: 1001, option: 1002, environment: 1003, file: 1004, default: 8080 } as const;
  const ranks = ["flag", "option", "environment", "file", "default"] as const;
  for (const [at, winner] of ranks.entries()) {
    for (const loser of ranks.slice(at + 1)) {
      const { config, sources } = resolveConfig({ ...given[loser], ...given[winner] });
      t.equal(config.port, ports[winner], `${winner} over ${loser}`);
      t.equal(sources.get("port")?.rank, winner, `${winner} is remembered as the source`);
    }
  }
});

t.test("every option can be given by flag, variable and file, under names made from its key", async (t) => {
  t.match(
    options.find(({ key }) => key === "commandsPerSecond"),
    { flag: "--commands-per-second", env: "FLUX_COMMANDS_PER_SECOND" },
  );
  // A valid value, different from the default, of each kind.
  const others: Record<string, string> = {
    host: "localhost", port: "9000", adminHost: "::1", adminPort: "9001", adminKey: "k".repeat(32), metricsPort: "9003", apiPort: "9004", demo: "false", tcpPort: "9002", tcpHost: "::1", tlsPassphrase: "p", compression: "shared", compressionBytesMin: "1KiB", allowAnonymous: "true", allowedOrigins: "https://a.example",
    reactors: "3", wakeRestMs: "2", nodeId: "n1", drainMs: "5s", memoryLimitBytes: "1GiB", memoryHighPercent: "7", logLevel: "warn", logFormat: "pretty", handshakeTimeoutMs: "5s", heartbeatMs: "5s", heartbeatGraceMs: "5s",
    frameBytesMax: "32KiB", roomsPerSessionMax: "7", roomNameBytesMax: "99", commandsPerSecond: "0", bytesPerSecond: "2MiB", socketsMax: "7", roomsMax: "7",
    socketQueueBytesMax: "2MiB", ringBytes: "8MiB", overflowBytesMax: "1MiB", tailPublicationsMax: "7", tailBytesMax: "1MiB", keyWindowMs: "5s", handshakesPerSecond: "7",
    presenceIntervalMs: "5s", presenceGraceMs: "6s", presenceNamedUsersMax: "7", presenceNamedChangesMax: "7", presencePageMax: "7", userStatus: "false",
    sendsPerMinute: "7", newInboxesPerHour: "7", dataDir: "data", dataBytesMax: "32MiB", dataSync: "off",
    watchedPerSessionMax: "7", lastSeenTtlMs: "5s", lastSeenMax: "7",
    keysPerRoomMax: "7", historyTotalBytesMax: "1MiB", sessionTtlMs: "5s", returnWindowMaxMs: "5s", sessionsPerUserMax: "7",
    tokenWarningMs: "5s", resumeSecret: "r".repeat(32), apiKeys: "/keys", apiTokenMaxMs: "5s", authSecret: "a".repeat(32), authKeys: "a.pem,b.json", authJwksUrl: "https://id.example/jwks", authAudience: "a,b", authIssuer: "https://id.example",
    hookConnect: "https://backend.example/connect", hookRefresh: "http://10.0.0.2/refresh", hookSecret: `whsec_${Buffer.alloc(32, 1).toString("base64")}`, hookSecretPrevious: `whsec_${Buffer.alloc(32, 2).toString("base64")}`,
    hookTimeoutMs: "5s", hookOnFailure: "allow", hookConnectionsMax: "7",
    webhooks: JSON.stringify({ main: { url: "https://backend.example/told", events: ["room.*"], secret: `whsec_${Buffer.alloc(32, 3).toString("base64")}` } }),
    webhooksAllowPrivate: "true", webhookTimeoutMs: "5s", webhookConnectionsMax: "7", webhookGiveUpMs: "1h", webhookEventsMax: "5000", webhookEventsBytesMax: "1MiB",
    authClockToleranceMs: "1s", inboxSize: "7", inboxTtlMs: "5s", inboxBytesMax: "1MiB",
    nats: "tls://a.example,10.0.0.2:4222", natsTlsCa: "ca.pem", natsPrefix: "other", natsPartitions: "7", natsReplicas: "3", natsStorage: "memory", natsTimeoutMs: "2s", natsGraceMs: "2s",
    policy: "least-load", nodes: "a=10.0.0.1:80", forward: "tcp", firstBytesMs: "5s", firstBytesMax: "1KiB", dialMs: "2s", readyCheckMs: "5s", connectionsMax: "7", sendProxy: "true", sharePort: "true",
    archive: "postgres://h/flux", archiveLagMs: "2h", archiveLagBytesMax: "1GiB", archiveKeepMs: "30d", outbox: "postgres://h/app",
    namespaces: '{"live":{"publish":"anyone"}}',
    redis: "redis://h", redisPrefix: "p:", placement: "hash", placementPartitions: "64", placementStreams: "7", placementStableMs: "1s", placementMovesPerSecond: "7", placementCalmMs: "1s", weight: "2", redisAnswerMs: "5s", nodeHost: "h", nodeUrl: "ws://h/ws", region: "r", nodeHeartbeatMs: "6s", nodeDeadMs: "16s",
  };
  for (const { key, env } of options) {
    if (["authSecretPrevious", "tlsCert", "tlsKey", "redisTlsCa", "metricsHost", "apiHost", "apiPublic", "apiTokens", "maxPartitions"].includes(key)) continue; // not by itself: see below, tls.test.ts and redis-tls.test.ts
    if (/^nats(User|Password|Token|Creds|TlsCert|TlsKey|Api)$/.test(key)) continue; // likewise
    const value = others[key];
    if (value === undefined) {
      t.fail(`no other value for ${key} in this test`);
      continue;
    }
    const source = key === "namespaces" ? "namespaces.live.publish" : key;
    const beside = key === "nats" ? { options: { resumeSecret: others.resumeSecret! } } : /^hook(Connect|Refresh|SecretPrevious)$/.test(key) ? { options: { hookSecret: others.hookSecret! } } : {};
    const byFlag = resolveConfig({ flags: { [key]: value }, ...beside });
    const byEnv = resolveConfig({ env: { [env]: value }, ...beside });
    const byFile = resolveConfig({ file: file({ [key]: value }), ...beside });
    t.equal(byFlag.sources.get(source)?.rank, "flag", key);
    t.equal(byEnv.sources.get(source)?.rank, "environment", key);
    t.equal(byFile.sources.get(source)?.rank, "file", key);
    t.same(byEnv.config[key], byFlag.config[key]);
    t.same(byFile.config[key], byFlag.config[key]);
    t.notSame(byFlag.config[key], resolveConfig().config[key], `${key} is changed`);
  }
});

t.test("partitions with one holder need NATS and Redis, and no stream has too many of them", async (t) => {
  const given = { placement: "partition", nats: "10.0.0.1", redis: "redis://h" };
  const { config } = resolveConfig({ flags: { ...given, maxPartitions: "20" } });
  t.match(config, { placementPartitions: 64, placementStreams: 4, maxPartitions: 20 });
  t.equal(resolveConfig({ flags: { placement: "hash" } }).config.placementPartitions, 1024);
  t.match(problemsOf({ flags: { placement: "partition" } }), [/^--placement: partition needs NATS.*set --nats/, /^--placement: partition needs Redis.*set --redis/]);
  t.match(problemsOf({ flags: { ...given, placementPartitions: "256" } }), [/^--placement-partitions: 256 partitions over 4 streams.*set --placement-streams to 8/]);
  t.same(resolveConfig({ flags: { ...given, placementPartitions: "256", placementStreams: "8" } }).config.placementPartitions, 256);
  t.match(problemsOf({ flags: { maxPartitions: "3" } }), [/^--max-partitions: applies only with --placement partition/]);
});

t.test("NATS: servers are addresses, what lets the node in is shown to nobody, and what does not go together is told", async (t) => {
  const { config } = resolveConfig({ flags: { nats: "nats://ann:hunter2@10.0.0.1:4222, tls://b.example , c.example", resumeSecret: "r".repeat(32) } });
  t.same(config.nats, ["nats://ann:hunter2@10.0.0.1:4222", "tls://b.example", "nats://c.example"]);
  t.equal(showValue(config, "nats"), "nats://[hidden]@10.0.0.1:4222,tls://b.example,nats://c.example");
  t.notMatch(JSON.stringify(jsonValue(config, "nats")), "hunter2");
  for (const wrong of ["http://a.example", "a b", "nats://ann:hunter2@", "nats://a:99999999"]) {
    const problems = problemsOf({ flags: { nats: wrong } });
    t.match(problems, [/^--nats: must be addresses such as nats:/], wrong);
    t.notMatch(problems.join(), "hunter2");
  }
  const nats = "10.0.0.1";
  const resumeSecret = "r".repeat(32);
  for (const given of [{ nats }, { nats, dataDir: "data" }]) t.match(problemsOf({ flags: given }).join(), /--nats: nodes on one NATS need the same secret.*set --resume-secret alike on all nodes, or --redis/);
  t.match(problemsOf({ env: { FLUX_NATS: nats } }), [/^FLUX_NATS: nodes on one NATS need the same secret/]);
  for (const given of [{ nats, resumeSecret }, { nats, redis: "redis://h" }, { nats, redis: "redis://h", resumeSecret }]) t.same(problemsOf({ flags: given }), []);
  t.match(problemsOf({ flags: { nats, resumeSecret, dataDir: "data" } }), [/^--data-dir: NATS stores the rooms.*remove --data-dir or --nats/]);
  t.match(problemsOf({ flags: { natsApi: true } }), [/^--nats-api: has no effect without --nats/]);
  t.match(problemsOf({ flags: { natsToken: "t" } }), [/^--nats-token: has no effect without --nats/]);
  t.match(problemsOf({ flags: { nats, resumeSecret, natsPassword: "p" } }), [/^--nats-password: has no effect without --nats-user/]);
  for (const nats of ["nats://ann:p%ZZ@h", "nats://a:b@h1,nats://c:d@h2", "nats://a:b@h1,nats://token@h2"]) {
    t.match(problemsOf({ options: { nats: nats.split(","), resumeSecret } }), [/^nats: /], nats);
    t.notMatch(problemsOf({ options: { nats: nats.split(","), resumeSecret } }).join(), /p%ZZ|token@|c:d/, "without what is secret");
  }
  t.same(problemsOf({ options: { nats: ["nats://a:p%40ss@h1", "nats://a:p%40ss@h2", "nats://h3"], resumeSecret } }), []);
  t.match(problemsOf({ options: { nats: ["nats://a:b@h"], natsToken: "t", resumeSecret } }), [/^natsToken: .*one of them/]);
  for (const both of [{ natsCreds: "c", natsToken: "t" }, { natsCreds: "c", natsUser: "u" }, { natsToken: "t", natsUser: "u", natsPassword: "p" }]) {
    t.match(problemsOf({ flags: { nats, resumeSecret, ...both } }), [/^--nats-\w+: NATS authenticates a node by one of them; remove --nats-\w+ or --nats-\w+/]);
  }
  t.match(problemsOf({ flags: { nats, resumeSecret, natsTlsKey: "k.pem" } }), [/^--nats-tls-key: has no effect without --nats-tls-cert/]);
});

t.test("times and sizes are read with their units", async (t) => {
  const timeOf = (heartbeatMs: unknown) => resolveConfig({ flags: { heartbeatMs } }).config.heartbeatMs;
  for (const [text, ms] of [["500ms", 500], ["30s", 30_000], ["1.5s", 1500], ["15m", 900_000], ["24h", 86_400_000], ["7d", 604_800_000], ["1200", 1200], [1200, 1200], ["30 S", 30_000]]) {
    t.equal(timeOf(text), ms, String(text));
  }
  const sizeOf = (tailBytesMax: unknown) => resolveConfig({ flags: { tailBytesMax } }).config.tailBytesMax;
  for (const [text, bytes] of [["64KiB", 65_536], ["1MiB", 1_048_576], ["2GiB", 2_147_483_648], ["12B", 12], ["12", 12], [12, 12], ["0.5MiB", 524_288], ["1mib", 1_048_576]]) {
    t.equal(sizeOf(text), bytes, String(text));
  }
  for (const text of ["", "s", "-5s", "5 weeks", "5s5", "1e3", "0", "0.2ms", "25d", null, true, [5], {}, Number.NaN, 1.5, -1]) {
    t.match(problemsOf({ options: unchecked({ heartbeatMs: text }) }), [/^heartbeatMs: must be a time from 1ms to 24d/], `time ${JSON.stringify(text)}`);
  }
  for (const text of ["64KB", "64k", "1 TiB", "-1", "0"]) {
    t.match(problemsOf({ flags: { tailBytesMax: text } }), [/^--tail-bytes-max: must be a size from 1B to 1024GiB/], `size ${text}`);
  }
});

t.test("what is on or off may be written in the usual words", async (t) => {
  for (const word of ["true", "1", "yes", "on", "TRUE", true]) t.equal(resolveConfig({ flags: { demo: word } }).config.demo, true);
  for (const word of ["false", "0", "no", "off", "No", false]) t.equal(resolveConfig({ flags: { demo: word } }).config.demo, false);
  t.same(problemsOf({ env: { FLUX_DEMO: "maybe" } }), ['FLUX_DEMO: must be true or false, not "maybe"']);
});

t.test("allowed origins are brought into the form browsers send", async (t) => {
  const read = (allowedOrigins: unknown) => resolveConfig({ options: unchecked({ allowedOrigins }) }).config.allowedOrigins;
  t.same(read("https://A.example:443, http://b.example:8080"), ["https://a.example", "http://b.example:8080"]);
  t.same(read(["*"]), ["*"]);
  t.same(read(["null", "capacitor://localhost"]), ["null", "capacitor://localhost"]);
  t.same(read([]), []);
  for (const wrong of ["example.com", "https://a.example/", "https://a.example/path", ["https://a.example", 5], 5, "https://user@a.example", "https://*.example.com:port"]) {
    t.match(problemsOf({ options: unchecked({ allowedOrigins: wrong }) }), [/^allowedOrigins: must be origins such as https:\/\/example.com:8443/], JSON.stringify(wrong));
  }
});

t.test("a wrong value is refused under the name the operator typed", async (t) => {
  t.same(problemsOf({ flags: { port: "http" } }), ['--port: must be a whole number from 0 to 65535, not "http"']);
  t.same(problemsOf({ env: { FLUX_ADMIN_PORT: "70000" } }), ['FLUX_ADMIN_PORT: must be a whole number from 0 to 65535, not "70000"']);
  t.same(problemsOf({ file: file({ port: 80.5 }) }), ["port in flux.json: must be a whole number from 0 to 65535, not 80.5"]);
  t.same(problemsOf({ options: { port: -1 } }), ["port: must be a whole number from 0 to 65535, not -1"]);
  t.same(problemsOf({ env: { FLUX_LOG_LEVEL: "loud" } }), ['FLUX_LOG_LEVEL: must be fatal, error, warn, info, debug, trace or silent, not "loud"']);
  t.same(problemsOf({ flags: { logFormat: "xml" } }), ['--log-format: must be pretty or json, not "xml"']);
  t.match(problemsOf({ flags: { nodeId: "a b" } }), [/^--node-id: must be a name of 1 to 64 letters/]);
  t.match(problemsOf({ flags: { host: "http://x" } }), [/^--host: must be an address or a host name, not "http:\/\/x"$/]);
  t.match(problemsOf({ flags: { nodeId: "x".repeat(500) } }), [/not "x{76}\.\.\.$/], "a long value is cut");
});

t.test("no limit may be zero or less, but those of commands, bytes and handshakes per second", async (t) => {
  const limits = options.filter(({ group, key }) => ["Limits", "Memory", "Sessions"].includes(group) && !/^(commands|bytes|handshakes)PerSecond$/.test(key));
  t.ok(limits.length > 12);
  for (const { key, flag } of [...limits, { key: "reactors", flag: "--reactors" }]) {
    for (const value of ["0", "-1"]) {
      const [problem = "", ...more] = problemsOf({ flags: { [key]: value } });
      t.ok(problem.startsWith(`${flag}: must be `), problem);
      t.same(more, []);
    }
  }
  t.equal(resolveConfig({ flags: { commandsPerSecond: "0" } }).config.commandsPerSecond, 0);
  t.equal(resolveConfig({ flags: { bytesPerSecond: "0" } }).config.bytesPerSecond, 0);
  t.equal(resolveConfig({ flags: { handshakesPerSecond: "0" } }).config.handshakesPerSecond, 0);
});

t.test("an unknown name is refused, and the nearest known one suggested", async (t) => {
  t.same(problemsOf({ env: { FLUX_PROT: "1", HOME: "/" } }), ["FLUX_PROT: unknown option; did you mean FLUX_PORT?"]);
  t.same(problemsOf({ file: file({ heartBeatMs: 1 }) }), ["heartBeatMs in flux.json: unknown option; did you mean heartbeatMs?"]);
  t.same(problemsOf({ options: unchecked({ reactor: 1 }) }), ["reactor: unknown option; did you mean reactors?"]);
  t.same(problemsOf({ file: file({ entirelyElse: 1 }) }), ["entirelyElse in flux.json: unknown option"]);
  t.same(problemsOf({ file: file({ namespaces: { chat: { historysize: 1 } } }) }), [
    "namespaces.chat.historysize in flux.json: unknown option; did you mean historySize?",
  ]);
  t.equal(nearest("prot", ["port", "host"]), "port");
  t.equal(nearest("xyz", ["port", "host"]), undefined);
});

t.test("variables that Kubernetes makes for services called flux are not taken for options", async (t) => {
  const env = {
    FLUX_PORT: "tcp://10.0.0.7:8080",
    FLUX_SERVICE_HOST: "10.0.0.7",
    FLUX_SERVICE_PORT: "8080",
    FLUX_SERVICE_PORT_WS: "8080",
    FLUX_PORT_8080_TCP_ADDR: "10.0.0.7",
    FLUX_GATEWAY_PORT: "tcp://10.0.0.8:8080",
    FLUX_GATEWAY_PORT_8080_TCP: "tcp://10.0.0.8:8080",
  };
  t.equal(resolveConfig({ env }).config.port, 8080);
  t.match(problemsOf({ env: { FLUX_GATEWAY_PORT: "8080" } }), [/^FLUX_GATEWAY_PORT: unknown option/]);
});

t.test("an empty variable counts as not set", async (t) => {
  t.equal(resolveConfig({ env: { FLUX_PORT: "", FLUX_ALLOWED_ORIGINS: "" } }).config.port, 8080);
});

t.test("all problems are told at once", async (t) => {
  const problems = problemsOf({ flags: { port: "x" }, env: { FLUX_REACTORS: "0", FLUX_WHAT: "1" }, file: file({ namespaces: { "a:b": {} }, ringBytes: 3 }) });
  t.equal(problems.length, 5, problems.join("\n"));
});

t.test("a file that holds no object is refused", async (t) => {
  for (const values of [null, [], "text", 5]) t.same(problemsOf({ file: file(values) }), ['flux.json: must hold a JSON object such as {"port":8080}']);
});

t.test("a node that other machines can reach needs a key for tokens, or --allow-anonymous", async (t) => {
  const advice = "other machines can reach 0.0.0.0, and without a token key anyone there can connect; set";
  const flags = `${advice} --auth-secret or --auth-keys, use 127.0.0.1, or allow it with`;
  t.same(problemsOf({ flags: { host: "0.0.0.0" } }), [`--host: ${flags} --allow-anonymous`]);
  t.same(problemsOf({ env: { FLUX_HOST: "0.0.0.0" }, file: file({ allowAnonymous: false }) }), [`FLUX_HOST: ${flags} allowAnonymous in flux.json`]);
  t.same(problemsOf({ options: { host: "0.0.0.0" } }), [`host: ${advice} authSecret or authKeys, use 127.0.0.1, or allow it with allowAnonymous`]);
  for (const key of [{ authSecret: "s".repeat(32) }, { authKeys: "keys.pem" }, { authJwksUrl: "https://id.example/jwks" }]) {
    t.same(problemsOf({ flags: { host: "0.0.0.0", ...key } }), []);
    t.equal(resolveConfig({ flags: key }).config.host, "0.0.0.0", "with one it listens on every address");
  }
  for (const host of ["192.168.1.5", "::", "gateway.example"]) t.equal(problemsOf({ flags: { host } }).length, 1, host);
  for (const host of ["127.0.0.1", "127.8.9.1", "::1", "localhost", "::ffff:127.0.0.1"]) {
    t.ok(isLoopback(host), host);
    t.same(problemsOf({ flags: { host } }), [], host);
  }
  t.equal(resolveConfig({ flags: { host: "0.0.0.0", allowAnonymous: true } }).config.host, "0.0.0.0");
  t.equal(resolveConfig({ flags: { allowAnonymous: true } }).config.host, "0.0.0.0", "allowed, it listens on every address");
  t.equal(resolveConfig({ flags: { allowAnonymous: true, host: "127.0.0.1" } }).config.host, "127.0.0.1", "but not if told otherwise");
});

t.test("the two ports must differ, unless both are picked by the system", async (t) => {
  t.same(problemsOf({ flags: { port: "8081" } }), ["--port: --port and --admin-port (default) are both 8081; choose another port for one of them"]);
  t.same(problemsOf({ env: { FLUX_ADMIN_PORT: "8080" } }), ["FLUX_ADMIN_PORT: --port (default) and FLUX_ADMIN_PORT are both 8080; choose another port for one of them"]);
  t.same(problemsOf({ options: { port: 0, adminPort: 0 } }), []);
});

t.test("an admin port that other machines can reach needs a key; the metrics alone need none", async (t) => {
  const [problem = ""] = problemsOf({ flags: { adminHost: "0.0.0.0" } });
  t.match(problem, /^--admin-host: other machines can reach 0\.0\.0\.0, .*set --admin-key, use 127\.0\.0\.1, .*--metrics-port$/);
  t.match(problemsOf({ env: { FLUX_ADMIN_HOST: "10.0.0.7", FLUX_ALLOW_ANONYMOUS: "true" } }), [/^FLUX_ADMIN_HOST: .*--admin-key/], "clients without tokens are another matter");
  t.same(problemsOf({ flags: { adminHost: "0.0.0.0", adminKey: "k".repeat(32) } }), []);
  for (const adminHost of ["::1", "localhost", "127.0.0.2"]) t.same(problemsOf({ flags: { adminHost } }), [], adminHost);
  for (const adminKey of ["short", "with a space in it, which no header has", "ü".repeat(32)]) t.match(problemsOf({ flags: { adminKey } }), [/^--admin-key: must be a secret of 32 to 1024 printable ASCII characters without spaces, not one of \d+$/]);
  t.same(problemsOf({ flags: { metricsHost: "0.0.0.0", metricsPort: "9090" } }), []);
  t.match(problemsOf({ flags: { metricsHost: "0.0.0.0" } }), ["--metrics-host: has no effect without --metrics-port; set both"]);
  t.match(problemsOf({ flags: { metricsPort: "8080" } }), ["--metrics-port: --metrics-port and --port (default) are both 8080; choose another port for one of them"]);
  t.same(problemsOf({ flags: { metricsPort: "0", tcpPort: "0", port: "0", adminPort: "0", apiPort: "0" } }), []);
  t.same(problemsOf({ flags: { apiHost: "0.0.0.0", apiPort: "8090", adminKey: "k".repeat(32) } }), []);
  t.same(problemsOf({ flags: { apiHost: "0.0.0.0", apiPort: "8090", apiKeys: "keys.json" } }), []);
  t.match(problemsOf({ flags: { apiHost: "0.0.0.0", apiPort: "8090" } }), [/^--api-host: other machines can reach 0\.0\.0\.0, .*--api-keys, --admin-key or --redis/]);
  t.match(problemsOf({ flags: { apiHost: "127.0.0.1" } }), ["--api-host: has no effect without --api-port; set both"]);
  for (const more of [{ apiKeys: "keys.json" }, { redis: "redis://h" }, { authSecret: "a".repeat(32) }]) t.same(problemsOf({ flags: { apiPublic: true, ...more } }), []);
  for (const more of [{}, { adminKey: "k".repeat(32) }]) t.match(problemsOf({ flags: { apiPublic: true, ...more } }), [/^--api-public: clients can reach the port, .*; set --api-keys or --redis$/]);
  t.match(problemsOf({ flags: { apiTokens: true } }), [/^--api-tokens: there is no secret to sign tokens with; set --auth-secret$/]);
  t.same(problemsOf({ flags: { apiTokens: true, authSecret: "a".repeat(32) } }), []);
  t.match(problemsOf({ flags: { apiPort: "8081" } }), ["--api-port: --api-port and --admin-port (default) are both 8081; choose another port for one of them"]);
});

t.test("a secret that ends with a line break is refused, as the other side may use it with or without", async (t) => {
  for (const key of ["authSecret", "authSecretPrevious", "resumeSecret", "adminKey", "natsPassword", "natsToken", "tlsPassphrase"]) {
    for (const end of ["\n", "\r\n"]) {
      const value = `${"s".repeat(32)}${end}`;
      const problems = problemsOf({ file: file({ [key]: value }) });
      t.match(problems, [new RegExp(`^${key} in flux\\.json: .*one that ends with a line break; remove it`)], key);
      t.notMatch(problems.join(), /sss/);
    }
  }
  t.equal(showValue(resolveConfig({ options: { tlsPassphrase: "opens it" } }).config, "tlsPassphrase"), "[hidden]", "a passphrase is shown to nobody, which it used to be");
});

t.test("a ring is a power of two and holds at least 16 frames", async (t) => {
  t.match(problemsOf({ flags: { ringBytes: "3MiB" } }), [/^--ring-bytes: must be a power of two from 1KiB to 1GiB, such as 1MiB or 4MiB, not "3MiB"$/]);
  t.same(problemsOf({ file: file({ ringBytes: "512KiB" }) }), [
    "ringBytes in flux.json: ringBytes in flux.json of 512KiB is less than 16 × --frame-bytes-max (default) of 64KiB; raise the first or lower the second",
  ]);
  t.match(problemsOf({ flags: { frameBytesMax: "1MiB" } }), [/^--frame-bytes-max: --ring-bytes \(default\) of 4MiB is less than 16 × --frame-bytes-max of 1MiB/]);
  t.equal(resolveConfig({ flags: { frameBytesMax: "1MiB", ringBytes: "16MiB" } }).config.ringBytes, 2 ** 24);
  t.match(problemsOf({ flags: { frameBytesMax: "200" } }), [/^--frame-bytes-max: --room-name-bytes-max \(default\) of 255 does not fit into a frame/]);
});

t.test("given namespaces are laid over the built-in ones, option by option, and null removes one", async (t) => {
  const { config, sources } = resolveConfig({
    file: file({ namespaces: { chat: { historySize: 50, historyTtlMs: "1h" }, live: null, news: { durable: true, publish: "nobody" } } }),
    env: { FLUX_NAMESPACES: '{"chat":{"historySize":60}}' },
    flags: { namespaces: '{"default":{"publish":"anyone"}}' },
  });
  t.same(config.namespaces, {
    chat: { durable: true, historySize: 60, historyTtlMs: 3_600_000, historyBytesMax: 16_777_216, archive: false, archiveRecovery: false, ...present },
    default: { durable: false, ...usual, publish: "anyone" },
    news: { durable: true, historySize: 1000, historyTtlMs: 86_400_000, historyBytesMax: 16_777_216, archive: false, archiveRecovery: false, ...usual, publish: "nobody" },
  });
  const rank = (path: string) => sources.get(`namespaces.${path}`)?.rank;
  t.same([rank("chat.historySize"), rank("chat.historyTtlMs"), rank("chat.publish"), rank("default.publish"), rank("live.publish")], [
    "environment",
    "file",
    "default",
    "flag",
    undefined,
  ]);
});

t.test("a namespace whose members nobody may know tells of nobody: the built-in one quietly, one that was asked to not", async (t) => {
  const { config } = resolveConfig({ options: { namespaces: { chat: { presence: "nobody" }, live: { presence: "anyone" } } } });
  t.match(config.namespaces, { chat: { presence: "nobody", presenceEvents: false }, live: { presence: "anyone", presenceEvents: false } });
  t.same(problemsOf({ file: file({ namespaces: { live: { presenceEvents: true } } }) }), [
    "namespaces.live.presenceEvents in flux.json: namespace live has no presence (presence: nobody); set live.presence to members, or remove presenceEvents",
  ]);
  t.match(problemsOf({ flags: { namespaces: '{"chat":{"presence":"all"}}' } }), [/chat\.presence: must be members, anyone or nobody/]);
});

t.test("a namespace made ephemeral forgets the built-in history, but not one that was asked for", async (t) => {
  t.same(resolveConfig({ options: { namespaces: { chat: { durable: false } } } }).config.namespaces.chat, { durable: false, ...present });
  t.same(problemsOf({ options: { namespaces: { live: { slowReaders: "catch-up" } } } }), [
    "namespaces.live.slowReaders: namespace live stores no history from which slow readers could catch up; set live.durable to true, or set slowReaders to drop or disconnect",
  ]);
  t.same(problemsOf({ file: file({ namespaces: { chat: { durable: false, historySize: 5 } } }) }), [
    "namespaces.chat.historySize in flux.json: namespace chat stores no history; set chat.durable to true, or remove historySize",
  ]);
  t.same(problemsOf({ env: { FLUX_NAMESPACES: '{"live":{"historyTtlMs":"1h"}}' } }), [
    "FLUX_NAMESPACES live.historyTtlMs: namespace live stores no history; set live.durable to true, or remove historyTtlMs",
  ]);
  t.equal(problemsOf({ flags: { namespaces: '{"x":{"historyBytesMax":"1MiB"}}' } }).length, 1, "a new namespace is ephemeral unless told");
});

t.test("namespaces that make no sense are refused", async (t) => {
  t.match(problemsOf({ flags: { namespaces: '{"a:b":{}}' } }), [/^--namespaces "a:b": the name of a namespace has 1 to 64 letters/]);
  t.match(problemsOf({ file: file({ namespaces: { "": {} } }) }), [/^namespaces."" in flux.json: the name of a namespace has/]);
  t.match(problemsOf({ flags: { namespaces: '{"__proto__":{"durable":true}}' } }), [/^--namespaces "__proto__": the name of a namespace has/]);
  t.same(problemsOf({ flags: { namespaces: "{chat" } }), ['--namespaces: must be a JSON object such as {"chat":{"historySize":100}}']);
  t.same(problemsOf({ flags: { namespaces: "[]" } }), ['--namespaces: must be a JSON object such as {"chat":{"historySize":100}}']);
  t.match(problemsOf({ flags: { namespaces: '{"chat":true}' } }), [/^--namespaces chat: must be an object of options/]);
  t.match(problemsOf({ file: file({ namespaces: { chat: { historySize: 0 } } }) }), [/^namespaces.chat.historySize in flux.json: must be a whole number from 1/]);
  t.match(problemsOf({ options: unchecked({ namespaces: { chat: { publish: "me" } } }) }), [/^namespaces.chat.publish: must be members, anyone or nobody, not "me"$/]);
  t.match(problemsOf({ flags: { namespaces: '{"chat":null,"live":null,"default":null}' } }), [/^--namespaces: every namespace is removed/]);
});

t.test("a configuration that was resolved is taken as it is when it is given again", async (t) => {
  const resolved = resolveConfig({ flags: { namespaces: '{"live":null,"x":{"durable":true}}', port: "0" } });
  t.equal(resolveConfig({ options: resolved.config }), resolved);
  t.equal(resolveConfig({ options: resolved.config, env: { FLUX_NAMESPACES: '{"live":{}}', FLUX_WHAT: "1" } }), resolved);
  t.same(resolveConfig({ options: { ...resolved.config, port: 1 } }).config.port, 1, "a copy is made of options like any other");
});

t.test("options given as undefined count as not given", async (t) => {
  t.equal(resolveConfig({ options: { port: undefined, namespaces: undefined } }).config.port, 8080);
});

t.test("a previous secret needs a present one", async (t) => {
  const [now, before] = ["n".repeat(32), "b".repeat(32)];
  t.same(problemsOf({ flags: { authSecretPrevious: before } }), ["--auth-secret-previous: there is no current secret; set --auth-secret to the secret that signs tokens now"]);
  const given = { authSecret: now, authSecretPrevious: before };
  for (const by of [{ flags: given }, { options: given }, { file: file(given) }, { env: { FLUX_AUTH_SECRET: now, FLUX_AUTH_SECRET_PREVIOUS: before } }]) {
    t.match(resolveConfig(by).config, given);
  }
});

t.test("a secret is never shown, not even where it is refused", async (t) => {
  const short = "my-secret";
  const pem = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----";
  t.same(problemsOf({ flags: { authSecret: short } }), ["--auth-secret: must be a secret of 32 to 1024 characters, not one of 9"]);
  t.same(problemsOf({ flags: { host: "0.0.0.0", resumeSecret: 5, authSecret: short } }).filter((problem) => problem.includes("5")), []);
  t.same(problemsOf({ env: { FLUX_AUTH_SECRET: pem } }), ["FLUX_AUTH_SECRET: must be a secret of 32 to 1024 characters, not a PEM key, which belongs in authKeys"]);
  const { config } = resolveConfig({ flags: { authSecret: "s".repeat(32) } });
  t.equal(showValue(config, "authSecret"), "[hidden]");
  t.equal(jsonValue(config, "authSecret"), "[hidden]");
  t.equal(showValue(config, "resumeSecret"), "");
});

t.test("keys are fetched over https only, or from this machine", async (t) => {
  for (const good of ["https://id.example/jwks.json", "http://127.0.0.1:9000/jwks", "http://localhost/jwks", "http://[::1]:80/"]) {
    t.equal(resolveConfig({ flags: { authJwksUrl: good } }).config.authJwksUrl, good);
  }
  for (const wrong of ["http://id.example/jwks", "ftp://id.example/", "file:///etc/passwd", "id.example", "https://me:pass@id.example/", 5]) {
    t.match(problemsOf({ flags: { authJwksUrl: wrong } }), [/^--auth-jwks-url: must be an address such as/], String(wrong));
  }
});
