/** The Kubernetes files as far as they can be read without kubectl: options, times and names. `npm run test:kubernetes` renders them and checks schemas. */
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parse } from "yaml";
import { options, resolveConfig } from "../src/config/config.ts";
import { objectsIn, type KubernetesObject, type PodSpec } from "./support/kubernetes.ts";
import { root } from "./support/root.ts";

const folder = join(root, "deploy/kubernetes");
const read = (path: string) => readFileSync(join(folder, path), "utf8");
const listed = (parse(read("kustomization.yaml")) as { resources: string[] }).resources;
const objects = listed.flatMap((path) => objectsIn(read(path)));
const find = (kind: string, name: string) => objects.find((one) => one.kind === kind && one.metadata.name === name)!;
const dataOf = (kind: string, name: string) => ({ ...find(kind, name).data, ...find(kind, name).stringData });
const podOf = (kind: string, name: string) => (find(kind, name).spec as { template: { spec: PodSpec } }).template.spec;

/** The environment of a container, as Kubernetes fills it in. */
function environmentOf({ containers: [container] }: PodSpec): Record<string, string> {
  const from = container!.envFrom.map(({ configMapRef, secretRef }) => (configMapRef ? dataOf("ConfigMap", configMapRef.name) : dataOf("Secret", secretRef!.name)));
  const fields: Record<string, string> = { "metadata.name": "flux-gateway-0", "status.podIP": "10.1.2.3" };
  const own = container!.env.map(({ name, value, valueFrom }) => [name, value ?? fields[valueFrom!.fieldRef.fieldPath]!]);
  return Object.assign({}, ...from, Object.fromEntries(own)) as Record<string, string>;
}

t.test("every file is listed, and every object is in one namespace", async (t) => {
  t.same(readdirSync(folder).filter((name) => name.endsWith(".yaml") && name !== "kustomization.yaml").sort(), [...listed].sort());
  t.ok(objects.length > 10);
  const kustomization = parse(read("kustomization.yaml")) as object;
  t.same(Object.keys(kustomization).sort(), ["apiVersion", "kind", "namespace", "resources"], "what the kustomize of kubectl 1.20 knows");
});

t.test("what it sets are options of a node and of a load balancer, with values that they take", async (t) => {
  const known = new Set(options.map(({ env }) => env));
  for (const [kind, name, runner] of [["StatefulSet", "flux-gateway", "node"], ["Deployment", "flux-balancer", "lb"]] as const) {
    const env = environmentOf(podOf(kind, name));
    t.same(Object.keys(env).filter((key) => !known.has(key)), [], name);
    const { config } = resolveConfig({ env, ...(runner === "lb" && { runner }) });
    t.match(config, { host: "0.0.0.0", port: 8080, metricsHost: "0.0.0.0", metricsPort: 9100, adminHost: "127.0.0.1", nodeId: "flux-gateway-0" }, name);
    if (runner === "node") t.match(config, { nodeHost: "10.1.2.3", placement: "hash", nats: ["nats://nats:4222"], nodeUrl: /^wss:/ });
    const { terminationGracePeriodSeconds: grace, containers: [container] } = podOf(kind, name);
    const waits = Number(container!.lifecycle.preStop.exec.command[1]);
    t.ok(grace * 1000 >= config.drainMs + waits * 1000 + 10_000, `${name}: a drain is not cut short`);
  }
});

t.test("pods have no rights, and probes ask for what they are for", async (t) => {
  for (const [kind, name] of [["StatefulSet", "flux-gateway"], ["Deployment", "flux-balancer"]] as const) {
    const { securityContext, automountServiceAccountToken, containers: [container] } = podOf(kind, name);
    t.match({ securityContext, automountServiceAccountToken }, { securityContext: { runAsNonRoot: true, runAsUser: 1000 }, automountServiceAccountToken: false });
    t.match(container!.securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } });
    // A load balancer forwards requests to nodes: whether it lives is not for a node to say.
    const lives = kind === "StatefulSet" ? { httpGet: { path: "/health", port: "clients" } } : { tcpSocket: { port: "clients" } };
    t.match(container, { livenessProbe: lives, startupProbe: lives, readinessProbe: { httpGet: { path: "/ready", port: "clients" } } });
    t.ok(container!.ports.some((port) => port.name === "clients" && port.containerPort === 8080));
  }
});

t.test("selectors find pods, and the autoscaler never looks at connections", async (t) => {
  const pods = [find("StatefulSet", "flux-gateway"), find("Deployment", "flux-balancer")].map((one) => (one.spec as { template: KubernetesObject }).template.metadata.labels!);
  const finds = (selector: Record<string, string>) => pods.filter((labels) => Object.entries(selector).every(([key, value]) => labels[key] === value)).length;
  const letIn = objectsIn(read("examples/host-per-pod.yaml")).filter((one) => one.kind === "NetworkPolicy");
  t.match(letIn, [{ spec: { ingress: [{ ports: [{ port: "clients" }] }] } }], "the base keeps an Ingress from the nodes");
  const selecting = [...objects, ...letIn];
  for (const kind of ["Service", "PodDisruptionBudget", "NetworkPolicy", "StatefulSet", "Deployment"]) {
    for (const { metadata, spec } of selecting.filter((one) => one.kind === kind)) {
      const { selector, podSelector } = spec as { selector?: Record<string, string> & { matchLabels?: Record<string, string> }; podSelector?: { matchLabels: Record<string, string> } };
      t.equal(finds(podSelector?.matchLabels ?? selector!.matchLabels ?? (selector as Record<string, string>)), 1, `${kind} ${metadata.name}`);
    }
  }
  const { serviceName, replicas } = find("StatefulSet", "flux-gateway").spec as { serviceName: string; replicas?: number };
  t.equal(serviceName, "flux-gateway-nodes");
  t.equal(replicas, undefined, "each apply would set back what the autoscaler chose");
  const metrics = [find("HorizontalPodAutoscaler", "flux-gateway"), ...objectsIn(read("examples/hpa-deliveries.yaml"))].map(({ spec }) => JSON.stringify((spec as { metrics: unknown }).metrics));
  t.match(metrics, [/"cpu"/, /flux_deliveries_per_second/]);
  t.notMatch(metrics.join(), /socket|connection/);
});

t.test("the operator gets the same rules as Prometheus", async (t) => {
  const [rule] = objectsIn(read("monitoring/prometheusrule.yaml"));
  const { groups } = parse(readFileSync(join(root, "deploy/prometheus/alerts.yaml"), "utf8")) as { groups: unknown };
  t.same((rule!.spec as { groups: unknown }).groups, groups);
  const [monitor] = objectsIn(read("monitoring/servicemonitor.yaml"));
  t.match(monitor!.spec, { endpoints: [{ port: "metrics", path: "/metrics" }] });
});

t.test("the systemd unit waits longer than a drain and is the one that the page shows; haproxy reads its file, and keeps idle sockets", async (t) => {
  const unit = readFileSync(join(root, "deploy/systemd/flux-gateway.service"), "utf8");
  t.ok(readFileSync(join(root, "docs/operations.md"), "utf8").includes(unit.slice(unit.indexOf("[Unit]"))));
  const { config } = resolveConfig({ env: {} });
  t.ok(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]) * 1000 >= config.drainMs + 10_000);
  const haproxy = join(root, "deploy/haproxy.cfg");
  const { status, stderr } = spawnSync("haproxy", ["-c", "-f", haproxy], { encoding: "utf8", env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
  t.equal(status, 0, stderr);
  const tunnel = Number(/timeout tunnel (\d+)s/.exec(readFileSync(haproxy, "utf8"))?.[1]) * 1000;
  t.ok(tunnel > config.heartbeatMs + config.heartbeatGraceMs);
});
