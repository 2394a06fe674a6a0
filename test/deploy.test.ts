/**
 * The image and the compose file, as far as they can be checked without an engine: linted and read. long/dockerfile.test.ts
 * does the steps of the Dockerfile.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { validate } from "dockerfile-utils";
import t from "tap";
import { parse } from "yaml";
import { options, resolveConfig } from "../src/config/config.ts";
import { time } from "../src/config/values.ts";
import { readDockerfile, type Stage } from "./support/dockerfile.ts";
import { root } from "./support/root.ts";
import { until } from "./support/until.ts";
const read = (path: string) => readFileSync(join(root, path), "utf8");
const dockerfile = read("Dockerfile");
const stages = readDockerfile(dockerfile);
const image = stages.at(-1) as Stage;

t.test("the linter finds nothing in the Dockerfile", async (t) => {
  t.same(validate(dockerfile).map(({ range, message }) => `line ${range.start.line + 1}: ${message}`), []);
  t.not(validate("FROM a\nENTRYPOINT x\nENTRYPOINT y\nEXPOSE z").length, 0, "and would find something");
});

t.test("the image runs without rights, on glibc, knows how it is stopped, and has nothing that only a build needs", async (t) => {
  t.equal(stages.length, 2);
  for (const { base } of stages) t.match(base, /^node:24-trixie-slim$/, "one base, a version of it, with glibc 2.41");
  t.match(image.settings.get("USER"), /^[1-9]\d*:[1-9]\d*$/, "by number, or runAsNonRoot refuses it");
  t.equal(image.settings.get("STOPSIGNAL"), "SIGTERM");
  t.match(image.settings.get("HEALTHCHECK"), /^--interval=10s --timeout=3s --start-period=5s CMD \["bash", "dist\/cli\/health\.sh"\]$/, "not a second Node, which would take the node's memory");
  t.notMatch(image.steps.map((step) => (step.kind === "run" ? step.command : "")).join(), /npm/);
  t.match(image.settings.get("ENV"), /NODE_ENV=production/);
});

t.test("whatever is copied from here is there and goes into the context, which has no secrets and no node_modules", async (t) => {
  const ignored = read(".dockerignore").trim().split("\n");
  t.equal(ignored[0], "*");
  const sources = stages.flatMap(({ steps }) => steps.flatMap((step) => (step.kind === "copy" && step.from === null ? step.sources : [])));
  t.ok(sources.length > 8);
  for (const source of sources) {
    t.ok(existsSync(join(root, source)), source);
    t.ok(ignored.includes(`!${source}`), `.dockerignore lets ${source} in`);
  }
  const allowed = ignored.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  t.same(allowed.filter((name) => !sources.includes(name)), [], "and nothing else");
});

// ------------------------------------------------------------------------------- compose

interface Service {
  readonly build?: { readonly context: string };
  readonly image?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly stop_grace_period?: string;
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

/** With the defaults that stand in it, as compose fills them in where the environment has nothing. */
const compose = parse(read("deploy/compose.yaml").replace(/\$\{\w+:-([^}]*)\}/g, "$1"), { merge: true }) as Compose;
const gateways = Object.entries(compose.services).filter(([, { build }]) => build !== undefined);
const balancers = Object.entries(compose.services).filter(([, { command }]) => command?.[0] === "lb");
const others = Object.entries(compose.services).filter(([name, { build }]) => build === undefined && !balancers.some(([own]) => own === name));

t.test("compose starts three gateways, each with a port and a name of its own, when NATS, Redis and PostgreSQL are healthy", async (t) => {
  t.same(gateways.map(([name]) => name), ["gateway-1", "gateway-2", "gateway-3"]);
  t.equal(new Set(gateways.map(([, { ports }]) => ports?.join())).size, 3);
  for (const [name, { build, ports, environment = {}, depends_on }] of gateways) {
    t.equal(environment.FLUX_NODE_ID, name);
    t.match(ports, [/^\d+:8080$/]);
    t.equal(environment.FLUX_NODE_URL, `ws://localhost:${ports?.[0]?.split(":")[0]}/ws`);
    t.ok(existsSync(resolve(root, "deploy", build!.context, "Dockerfile")));
    t.same(Object.keys(depends_on ?? {}).sort(), ["nats", "postgres", "redis"]);
    for (const [other, { condition }] of Object.entries(depends_on ?? {})) {
      t.equal(condition, "service_healthy");
      t.ok(compose.services[other]?.healthcheck, `${other} has a health check to wait for`);
    }
  }
});

t.test("what compose configures are options, with values that a node takes", async (t) => {
  for (const [name, { environment = {}, ports = [] }] of gateways) {
    const env = Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, String(value)]));
    const known = new Set(options.map((option) => option.env));
    t.same(Object.keys(env).filter((key) => !known.has(key)), [], `${name} has no other variables`);
    const { config } = resolveConfig({ env });
    t.equal(config.host, "0.0.0.0", "a container is reached from outside");
    t.match(config, { port: 8080, nats: ["nats://nats:4222"] });
    t.match(config, { adminHost: "127.0.0.1", metricsHost: "0.0.0.0", metricsPort: 9100 }, "other containers read the metrics, and can end nobody");
    t.notOk(ports.some((port) => /9100|8081$/.test(port)), "neither port is published");
    t.match(config.redis, /redis/);
    const { POSTGRES_USER: user, POSTGRES_PASSWORD: password } = compose.services.postgres?.environment ?? {};
    for (const url of [config.archive, config.outbox]) t.equal(url, `postgres://${user}:${password}@postgres:5432/${user}`);
    t.match(config.namespaces.chat, { archive: true });
    t.ok(config.resumeSecret.length >= 32, "sessions move between nodes");
  }
  t.equal(new Set(gateways.map(([, { environment }]) => environment?.FLUX_RESUME_SECRET)).size, 1);
});

t.test("compose has a load balancer, of the same image, with options that it takes", async (t) => {
  t.same(balancers.map(([name]) => name), ["balancer"]);
  for (const [, { image: name, environment = {}, ports, stop_grace_period: grace }] of balancers) {
    t.equal(name, "flux-gateway");
    const { config } = resolveConfig({ env: Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, String(value)])), runner: "lb" });
    t.match(config, { host: "0.0.0.0", port: 8080, redis: "redis://redis:6379", adminHost: "127.0.0.1", metricsPort: 9100 });
    t.same(ports, ["8090:8080"]);
    t.notOk(gateways.some(([, { ports: own }]) => own?.join().startsWith("8090")));
    t.ok(Number.parseInt(grace ?? "", 10) * 1000 >= config.drainMs + 10_000);
  }
});

t.test("compose waits longer for a node to end than it drains", async (t) => {
  for (const [, { stop_grace_period: grace, environment }] of gateways) {
    const ms = (text: unknown) => time(0, 86_400_000).schema.parse(text);
    t.ok(ms(grace) >= ms(environment?.FLUX_DRAIN_MS) + 10_000);
  }
});

t.test("the other images have versions, their files are there and their volumes are named", async (t) => {
  t.same(others.map(([name]) => name), ["backend", "nats", "redis", "postgres", "prometheus"]);
  for (const [, { image: name, volumes = [] }] of others) {
    t.match(name, /^[a-z]+:\d+(\.\d+)?-alpine$|^prom\/prometheus:v\d+\.\d+\.\d+$/);
    for (const volume of volumes) {
      const [from = ""] = volume.split(":");
      if (from.startsWith(".")) t.ok(existsSync(join(root, "deploy", from)), from);
      else t.ok(from in compose.volumes, from);
    }
  }
});

t.test("Prometheus of compose scrapes every gateway and the load balancer, and reads the rules beside its configuration", async (t) => {
  const { volumes = [], command = [] } = compose.services.prometheus!;
  t.ok(volumes.includes("./prometheus:/etc/prometheus:ro") && command.includes("--config.file=/etc/prometheus/prometheus.yaml"));
  const { scrape_configs: jobs, rule_files: rules } = parse(read("deploy/prometheus/prometheus.yaml")) as { scrape_configs: { static_configs: { targets: string[] }[] }[]; rule_files: string[] };
  const targets = jobs.flatMap(({ static_configs: all }) => all.flatMap((one) => one.targets));
  t.same(targets, [...gateways, ...balancers].map(([name]) => `${name}:9100`));
  for (const file of rules) t.ok(existsSync(join(root, "deploy/prometheus", file)), file);
});

t.test("NATS takes its configuration, which writes what it acknowledges to the disk", async (t) => {
  const text = read("deploy/nats.conf");
  t.match(text, /^ {2}sync_interval: always$/m);
  // nats-server knows `always` from 2.10 on, and Debian's is 2.9.
  const file = join(t.testdir(), "nats.conf");
  writeFileSync(file, text.replace(/^ {2}sync_interval: always$/m, ""));
  const { status, stderr, error } = spawnSync("nats-server", ["-t", "-c", file], { encoding: "utf8" });
  t.equal(status, 0, error ? "nats-server is missing: bash test/support/services.sh" : stderr);
});

t.test("Redis takes its command", async (t) => {
  const [command = "", ...args] = compose.services.redis?.command ?? [];
  const folder = t.testdir();
  const redis = spawn(command, [...args, "--port", "0", "--unixsocket", join(folder, "s"), "--dir", folder], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => redis.kill("SIGKILL"));
  let said = "";
  redis.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  redis.on("error", () => (said += "redis-server is missing: bash test/support/services.sh"));
  await until(() => /Ready to accept|The server is now ready/i.test(said) || redis.exitCode !== null || said.includes("missing"), "Redis to say something");
  t.match(said, /Ready to accept/i);
});
