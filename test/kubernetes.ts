/**
 * `npm run test:kubernetes`: renders deploy/kubernetes with `kubectl kustomize`, and checks each object, of the examples too, against the schemas of
 * Kubernetes and of the Prometheus operator. The schemas are 7,500 files, so they are installed for this command alone. No cluster is needed.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { objectsIn, type KubernetesObject } from "./support/kubernetes.ts";
import { root } from "./support/root.ts";

const schemas = ["kubernetes-models@5.1.0", "@kubernetes-models/prometheus-operator@6.0.0"];
const folder = join(root, "deploy/kubernetes");
/** Another kubectl: an older one, say. */
const kubectl = process.env.KUBECTL ?? "kubectl";

if (spawnSync(kubectl, ["version", "--client"]).error !== undefined) {
  if (process.getuid?.() === 0) spawnSync("bash", ["-c", "apt-get update && apt-get install -y --no-install-recommends kubernetes-client"], { stdio: "ignore" });
  if (spawnSync(kubectl, ["version", "--client"]).error !== undefined) throw new Error("kubectl is missing. On Debian: apt-get install --no-install-recommends kubernetes-client");
}
const modules = mkdtempSync(join(tmpdir(), "flux-schemas-"));
try {
  execFileSync("npm", ["install", "--prefix", modules, "--no-audit", "--no-fund", "--no-save", ...schemas], { stdio: ["ignore", "ignore", "inherit"] });
  const rendered = ["", "monitoring"].flatMap((path) => objectsIn(execFileSync(kubectl, ["kustomize", join(folder, path)], { encoding: "utf8" })));
  const examples = readdirSync(join(folder, "examples")).flatMap((name) => objectsIn(readFileSync(join(folder, "examples", name), "utf8")));
  for (const object of rendered) if (object.kind !== "Namespace" && object.metadata.namespace !== "flux") throw new Error(`${nameOf(object)} is in no namespace`);
  for (const object of [...rendered, ...examples]) {
    await validate(object);
    console.log(`ok: ${nameOf(object)}`);
  }
  const statefulSet = rendered.find(({ kind }) => kind === "StatefulSet")!;
  await expectRefusal({ ...statefulSet, spec: { ...statefulSet.spec, replicas: "three" } });
  checkNames([...rendered, ...examples], { ...statefulSet, spec: { ...statefulSet.spec, replica: 3 } });
  const version = execFileSync(kubectl, ["version", "--client"], { encoding: "utf8" }).trim().split("\n")[0];
  console.log(`${rendered.length} objects were rendered by kubectl (${version}); they and ${examples.length} of the examples keep to their schemas`);
} finally {
  rmSync(modules, { recursive: true, force: true });
}

function nameOf({ apiVersion, kind, metadata }: KubernetesObject): string {
  return `${apiVersion} ${kind} ${metadata.name}`;
}

/** @throws what does not keep to the schema */
async function validate(object: KubernetesObject): Promise<void> {
  const { apiVersion, kind } = object;
  const place = packageOf(apiVersion);
  const path = join(modules, "node_modules", place, apiVersion, `${kind}.js`);
  const models = (await import(pathToFileURL(path).href)) as Record<string, new (data: object) => { validate(): void }>;
  const Model = models[kind];
  if (Model === undefined) throw new Error(`${nameOf(object)}: ${place} has no such kind`);
  new Model(object).validate();
}

/** A check that finds nothing would pass everything. */
async function expectRefusal(wrong: KubernetesObject): Promise<void> {
  try {
    await validate(wrong);
  } catch {
    return;
  }
  throw new Error("the schemas find nothing wrong with what is wrong");
}

/** The schemas let unknown names pass. The types of the same packages do not: TypeScript reads each object as a literal. */
function checkNames(objects: readonly KubernetesObject[], wrong: KubernetesObject): void {
  const line = (object: KubernetesObject, i: number) => {
    const { apiVersion, kind } = object;
    return `const o${i}: import("${packageOf(apiVersion)}/${apiVersion}/${kind}").I${kind} = ${JSON.stringify(object)};`;
  };
  const text = [...objects.map(line), "// @ts-expect-error", line(wrong, objects.length), "export {};", ""].join("\n");
  writeFileSync(join(modules, "check.mts"), text);
  const tsc = join(root, "node_modules/typescript-7/bin/tsc");
  const { status, stdout } = spawnSync(process.execPath, [tsc, "--noEmit", "--strict", "--skipLibCheck", "--types", "", "--module", "nodenext", "check.mts"], { cwd: modules, encoding: "utf8" });
  if (status !== 0) throw new Error(`a name or a type that Kubernetes does not know: ${stdout}`);
}

function packageOf(apiVersion: string): string {
  return apiVersion.startsWith("monitoring.coreos.com/") ? "@kubernetes-models/prometheus-operator" : "kubernetes-models";
}
