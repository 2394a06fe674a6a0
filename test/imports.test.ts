/**
 * The import rule of src: cli → {lb, conformance} → node → {http, outbox, webhooks, dashboard} → {admin, api} → {hub, reactor, hooks} → link → auth → config → placement → seams → {redis, disk, postgres} →
 * {platform, protocol} → errors. No cycles. The protocol and the client run in browsers. Only composition picks implementations of seams.
 */
import { readFileSync, readdirSync, statSync } from "node:fs";
import { builtinModules } from "node:module";
import { join, posix, relative } from "node:path";
import t from "tap";
import ts from "typescript";
import { root } from "./support/root.ts";

/** Path below src → what it imports, as written. */
type Imports = Map<string, string[]>;

/** Folders with an interface in the file of the same name and implementations in the others. */
const seams = ["archive", "broker", "presence", "sessions", "registry", "messages", "keystore", "facts"];
/** What those who use a seam speak with it about: types as its interface has them, too many for one file. */
const besideInterfaces = ["archive/feed.ts", "archive/operations.ts", "messages/drainoptions.ts", "messages/survey.ts"];
/** The files that pick implementations. */
const compositions = ["node/archive.ts", "node/stores.ts", "node/cluster.ts", "node/keystores.ts", "node/natsapi.ts", "node/partitions.ts", "node/webhooks.ts", "lb/members.ts", "reactor/main.ts"];
/** From top to bottom; a part imports from parts below it, and from itself. A part is a folder or a file of src. */
const levels = [
  ["cli", "contracts", "server"],
  ["index"],
  ["lb", "conformance"],
  ["node"],
  ["http", "outbox", "webhooks", "dashboard"],
  ["admin", "api"],
  ["hub", "reactor", "hooks", "metrics"],
  ["link"],
  ["auth"],
  ["config"],
  ["placement"],
  ["seam"],
  ["redis", "disk", "postgres"],
  ["platform", "protocol"],
  ["errors"],
];
/** Parts that are for browsers too, and what they may reach. */
const browser = ["client", "protocol"];
const browserReaches = ["client", "protocol", "errors"];

const nodeModules = new Set(builtinModules.flatMap((name) => [name, `node:${name}`]));

t.test("src keeps the import rule", async (t) => {
  const imports = readImports(join(root, "src"));
  t.ok(imports.size > 20, "the sources were found");
  t.ok([...imports.values()].flat().length > imports.size, "and their imports");
  t.strictSame(violations(imports), []);
});

t.test("a reactor's bundle has no table of options", async (t) => {
  const { sources } = JSON.parse(readFileSync(join(root, "dist/reactor/main.js.map"), "utf8")) as { sources: string[] };
  t.ok(sources.some((path) => path.endsWith("/config/reach.ts")), "the bundle's sources were found");
  t.strictSame(sources.filter((path) => path.endsWith("/config/options.ts") || path.endsWith("/config/values.ts")), [], "every thread would build it at its start");
});

t.test("the check knows how TypeScript writes imports", async (t) => {
  const text = `
    import { a } from "./a.ts";
    import type { B } from "./b.ts";
    export { c } from "./c.ts";
    export * from "./d.ts";
    import "./e.ts";
    const f = await import("./f.ts");
    const worker = new URL("./not-an-import.ts", import.meta.url);
    // import { g } from "./comment.ts"`;
  t.strictSame(importsOf(text).sort(), ["./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.ts", "./f.ts"]);
});

t.test("a tree that keeps the rule passes", async (t) => {
  t.strictSame(violations(new Map(Object.entries(sound))), []);
});

/** A small src in which every part imports what it may. */
const sound: Record<string, string[]> = {
  "cli/main.ts": ["./commands/start.ts", "commander"],
  "cli/commands/start.ts": ["../../index.ts", "../../config/config.ts"],
  "index.ts": ["./node/gateway.ts", "./errors.ts"],
  "node/gateway.ts": ["node:worker_threads", "./parts.ts", "../admin/admin.ts", "../config/config.ts"],
  "node/parts.ts": ["./stores.ts", "../hub/hub.ts"],
  "node/stores.ts": ["../broker/memory.ts", "../broker/nats/broker.ts", "../broker/broker.ts"],
  "config/config.ts": ["../errors.ts", "../platform/machine.ts", "zod"],
  "admin/admin.ts": ["node:http", "../config/config.ts", "../messages/survey.ts"],
  "hub/hub.ts": ["./rooms.ts", "../broker/broker.ts", "../link/ring.ts", "../protocol/codec.ts"],
  "hub/rooms.ts": ["../platform/ids.ts"],
  "reactor/main.ts": ["./session/session.ts", "../broker/memory.ts"],
  "reactor/session/session.ts": ["../../link/ring.ts", "../../protocol/codec.ts"],
  "link/ring.ts": ["node:worker_threads"],
  "broker/broker.ts": ["../protocol/codec.ts"],
  "broker/memory.ts": ["./broker.ts", "./keys.ts", "node:crypto"],
  "broker/keys.ts": [],
  "broker/nats/broker.ts": ["../broker.ts", "./outbox.ts"],
  "broker/nats/outbox.ts": ["../../platform/ids.ts"],
  "messages/survey.ts": [],
  "disk/journal.ts": ["node:fs", "../platform/ids.ts"],
  "client/index.ts": ["./socket.ts", "../protocol/codec.ts", "../errors.ts"],
  "client/socket.ts": [],
  "protocol/codec.ts": ["./generated/flux.js", "../errors.ts", "protobufjs/minimal.js"],
  "protocol/json.ts": ["./codec.ts", "zod"],
  "protocol/generated/flux.js": ["protobufjs/minimal.js"],
  "platform/ids.ts": ["node:crypto"],
  "platform/machine.ts": ["node:os"],
  "errors.ts": [],
};

const spoilt: { title: string; file: string; imports: string; says: RegExp }[] = [
  { title: "the node importing the cli", file: "node/gateway.ts", imports: "../cli/commands/start.ts", says: /node.*cli/ },
  { title: "the hub importing the node", file: "hub/hub.ts", imports: "../node/gateway.ts", says: /hub.*node/ },
  { title: "the hub importing a reactor", file: "hub/rooms.ts", imports: "../reactor/session/session.ts", says: /hub.*reactor/ },
  { title: "a reactor importing the admin side", file: "reactor/session/session.ts", imports: "../../admin/admin.ts", says: /reactor.*admin/ },
  { title: "the admin side importing the node", file: "admin/admin.ts", imports: "../node/parts.ts", says: /admin.*node/ },
  { title: "the platform importing the configuration", file: "platform/machine.ts", imports: "../config/config.ts", says: /platform.*config/ },
  { title: "the gateway importing an implementation", file: "node/gateway.ts", imports: "../broker/memory.ts", says: /implementation/ },
  { title: "the hub importing an implementation", file: "hub/hub.ts", imports: "../broker/memory.ts", says: /implementation/ },
  { title: "the hub importing a part of an implementation", file: "hub/hub.ts", imports: "../broker/keys.ts", says: /implementation/ },
  { title: "the hub importing an implementation in a folder", file: "hub/hub.ts", imports: "../broker/nats/outbox.ts", says: /implementation/ },
  { title: "an interface importing its implementation", file: "broker/broker.ts", imports: "./memory.ts", says: /interface|cycle/ },
  { title: "a seam importing the hub", file: "broker/broker.ts", imports: "../hub/rooms.ts", says: /seam.*hub/ },
  { title: "a seam importing the configuration", file: "broker/broker.ts", imports: "../config/config.ts", says: /seam.*config/ },
  { title: "an implementation importing the hub", file: "broker/memory.ts", imports: "../hub/rooms.ts", says: /seam.*hub/ },
  { title: "the disk importing a seam", file: "disk/journal.ts", imports: "../broker/broker.ts", says: /disk.*seam/ },
  { title: "the protocol importing the link", file: "protocol/codec.ts", imports: "../link/ring.ts", says: /protocol.*link/ },
  { title: "the protocol importing a Node module", file: "protocol/codec.ts", imports: "node:buffer", says: /node:buffer/ },
  { title: "the protocol importing a Node module by its bare name", file: "protocol/codec.ts", imports: "buffer", says: /buffer/ },
  { title: "what the client reaches of the protocol importing a package", file: "protocol/codec.ts", imports: "zod", says: /zod/ },
  { title: "what the client does not reach of the protocol importing a Node module", file: "protocol/json.ts", imports: "node:util", says: /node:util/ },
  { title: "the client importing a Node module", file: "client/socket.ts", imports: "node:net", says: /node:net/ },
  { title: "the client importing a package", file: "client/socket.ts", imports: "ws", says: /ws/ },
  { title: "the client outside of its hooks importing React", file: "client/socket.ts", imports: "react", says: /react/ },
  { title: "the client importing the configuration", file: "client/socket.ts", imports: "../config/config.ts", says: /client.*config/ },
  { title: "the node importing the client", file: "reactor/session/session.ts", imports: "../../client/socket.ts", says: /client/ },
  { title: "a browser's errors importing a Node module", file: "errors.ts", imports: "node:util", says: /node:util/ },
  { title: "two files importing each other", file: "broker/keys.ts", imports: "./memory.ts", says: /cycle/ },
  { title: "a file importing itself", file: "errors.ts", imports: "./errors.ts", says: /cycle/ },
  { title: "a file that is not there", file: "hub/hub.ts", imports: "./gone.ts", says: /gone/ },
];

for (const { title, file, imports, says } of spoilt) {
  t.test(`${title} is a violation`, async (t) => {
    const found = violations(new Map(Object.entries({ ...sound, [file]: [...(sound[file] ?? []), imports] })));
    t.ok(found.length > 0, "found");
    t.match(found.join("\n"), says);
    t.match(found.join("\n"), file);
  });
}

t.test("a long cycle is told file by file", async (t) => {
  const found = violations(new Map([["hub/a.ts", ["./b.ts"]], ["hub/b.ts", ["./c.ts"]], ["hub/c.ts", ["./a.ts"]]]));
  t.strictSame(found, ["cycle: hub/a.ts → hub/b.ts → hub/c.ts → hub/a.ts"]);
});

function violations(imports: Imports): string[] {
  const loaded = loadedByBrowsers(imports);
  const found = [...imports].flatMap(([file, targets]) => targets.flatMap((target) => {
    const text = target.startsWith(".") ? internal(imports, file, resolve(file, target)) : external(loaded, file, target);
    return text === undefined ? [] : [`${file} imports ${target}: ${text}`];
  }));
  return [...found, ...cycles(imports)];
}

/** What is wrong with `file` importing a package or a Node module. */
function external(loaded: Set<string>, file: string, target: string): string | undefined {
  if (nodeModules.has(target)) return loaded.has(file) || partOf(file) === "protocol" ? "it is for browsers too, and this is a Node module" : undefined;
  if (target === "react" && file.startsWith("client/react/")) return undefined;
  return loaded.has(file) && !target.startsWith("protobufjs") ? "browsers load it, and have protobufjs only" : undefined;
}

/** What is wrong with one file of src importing another. */
function internal(imports: Imports, file: string, imported: string): string | undefined {
  const [own, part] = [partOf(file), partOf(imported)];
  if (!imports.has(imported)) return `there is no src/${imported}`;
  if (browser.includes(own) && !browserReaches.includes(part)) return `${own} is for browsers too, and may not reach ${part}`;
  if (part === "client" && own !== "client") return "nothing in the node imports the client";
  if (isImplementation(imported) && folderOf(file) !== folderOf(imported)) {
    return compositions.includes(file) ? undefined : `only ${compositions.join(" and ")} pick an implementation`;
  }
  if (isImplementation(imported) && isInterface(file)) return "an interface does not know its implementations";
  if (own === part || own === "client" || levelOf(part) > levelOf(own)) return undefined;
  return `${own} is not above ${part}`;
}

/** The client and whatever it reaches: what is in the bundle for browsers. */
function loadedByBrowsers(imports: Imports): Set<string> {
  const loaded = new Set<string>();
  const load = (file: string): void => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const target of imports.get(file) ?? []) if (target.startsWith(".")) load(resolve(file, target));
  };
  for (const file of imports.keys()) if (partOf(file) === "client") load(file);
  return loaded;
}

function resolve(file: string, target: string): string {
  return posix.join(posix.dirname(file), target);
}

function partOf(file: string): string {
  const folder = folderOf(file);
  if (seams.includes(folder)) return "seam";
  return folder || file.replace(/\.ts$/, "");
}

function levelOf(part: string): number {
  const level = levels.findIndex((parts) => parts.includes(part));
  if (level < 0) throw new Error(`src/${part} has no place in the import rule: name it in test/imports.test.ts`);
  return level;
}

function folderOf(file: string): string {
  return file.includes("/") ? file.slice(0, file.indexOf("/")) : "";
}

function isInterface(file: string): boolean {
  return seams.some((seam) => file === `${seam}/${seam}.ts`) || besideInterfaces.includes(file);
}

function isImplementation(file: string): boolean {
  return seams.includes(folderOf(file)) && !isInterface(file);
}

/** Each cycle once, from its first file in the alphabet. */
function cycles(imports: Imports): string[] {
  const found = new Set<string>();
  const done = new Set<string>();
  const visit = (file: string, path: string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) {
      const cycle = path.slice(start);
      const first = cycle.indexOf([...cycle].sort()[0] ?? "");
      found.add(`cycle: ${[...cycle.slice(first), ...cycle.slice(0, first), cycle[first]].join(" → ")}`);
      return;
    }
    if (done.has(file)) return;
    for (const target of imports.get(file) ?? []) {
      if (target.startsWith(".")) visit(resolve(file, target), [...path, file]);
    }
    done.add(file);
  };
  for (const file of [...imports.keys()].sort()) visit(file, []);
  return [...found];
}

function readImports(root: string): Imports {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" })
    .map((name) => join(root, name))
    .filter((path) => statSync(path).isFile() && /\.(ts|js)$/.test(path) && !path.endsWith(".d.ts") && !path.includes("/demo/") && !path.includes("/dashboard/page/"));
  return new Map(files.map((path) => [relative(root, path), importsOf(readFileSync(path, "utf8"))]));
}

function importsOf(text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}
