/**
 * Fenced blocks of README and docs/ do what they say. What happens to a block stands behind its fence:
 *
 *   sh                   runs. All of a page run in order, in one session of bash, in an empty folder. `flux-gateway` and
 *                        `npx flux-gateway` are this build; `start` goes to the background until the page is done, and replaces the
 *                        node that has its ports. Ports are written as a stranger would have them and replaced by free ones.
 *   sh no-run            does not run, for a reason that `reasons` below knows.
 *   js, ts               type-checked: all of a page as one module, each block seeing the names of those before it.
 *   js run               runs as well, in the page's session.
 *   json                 a configuration, checked as a node checks it. json data: any JSON.
 *   yaml                 parsed.
 *   … file=NAME          is also written to the page's folder, for the blocks behind it.
 *   go                   runs in the page's session where `go` is installed. services.sh does not install it: 500 MB of Debian packages, for one block.
 *   text, jsx, html, ini, nginx, http, promql, mermaid    shown.
 *   ts no-check          shown; only in the generated reference.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t from "tap";
import { parse } from "yaml";
import { resolveConfig } from "../src/config/config.ts";
import { freePort } from "../src/node/ports.ts";
import { readPages, type Block, type Page } from "./support/pages.ts";
import { root } from "./support/root.ts";

/** Why a block of sh is not run, by what is in it. */
const reasons: readonly (readonly [has: RegExp, why: string])[] = [
  [/\bnpm (?:ci|install|i|pack|test|run)\b|\bnpx tap\b/, "it installs packages, or takes minutes"],
  [/\bdocker\b/, "it needs a container engine"],
  [/\b(?:systemctl|journalctl|useradd|apt-get|sudo|install -)/, "it needs root and systemd"],
  [/\bnginx\b/, "it needs nginx: test/nginx.test.ts runs deploy/nginx.conf"],
  [/\bprometheus\b|\bpromtool\b|--metrics-host/, "it needs Prometheus: npm run test:prometheus"],
  [/\bkubectl\b/, "it needs a cluster of Kubernetes: npm run test:kubernetes"],
  [/--nats|--redis|FLUX_NATS|FLUX_REDIS|nats-server|redis-server|\$cluster/, "it needs NATS and Redis: test/nodes*.test.ts run such nodes"],
  [/--archive/, "it needs NATS and PostgreSQL: test/archive*.test.ts run such nodes"],
  [/example\.com|example\.org|\b10\.0\.0\.\d|--tls-cert|--key \S+\.pem/, "it names hosts or files of a real deployment"],
  [/flux-gateway drain|\bp?kill -|curl -N/, "it ends the node that the page goes on with"],
  [/^node \w+\.mjs$/m, "it serves until it is stopped"],
  [/\$TOKEN|\bTOKEN\b|FLUX_ADMIN_KEY/, "it has a placeholder"],
  [/node-flags|flux-gateway nodes|flux-gateway disconnect|flux-gateway survey/, "it asks a cluster: test/survey.test.ts and test/cli.test.ts run the commands"],
  [/flux-gateway conformance/, "it runs a driver for a minute: test/conformance.test.ts plays all situations"],
  [/localhost:5173|npm create vite/, "it needs a project of React: test/long/recipes.test.ts runs the hooks"],
  [/http\.server/, "it serves until it is stopped: test/long/recipes.test.ts serves the recipes"],
  [/rooms\/dash:orders|users\/USER/, "it needs the node and the page of the recipe: test/long/recipes.test.ts publishes to them"],
  [/git clone|openssl/, "it needs a network, or makes files that are not needed further"],
];
const shown = new Set(["go", "text", "jsx", "html", "ini", "nginx", "http", "promql", "mermaid"]);
const languages = new Set([...shown, "sh", "js", "ts", "json", "yaml"]);
/** As a stranger would have them. */
const ports = [8080, 8081, 8082, 8083, 8084, 8085, 9090, 9100, 3000, 5173, 8000];

const pages = readPages().filter(({ path }) => path !== "CHANGELOG.md");
/**
 * Blocks in Go run only where it is installed: its compiler costs a minute of CPU, more than all other blocks of a page.
 * They last ran with Go 1.19.8 of Debian 12 on 29 November 2026: `apt-get install --no-install-recommends golang-go`,
 * and then `TAP_GREP=/backend/` before the command of this test.
 */
const hasGo = spawnSync("go", ["version"]).status === 0;
const isScript = ({ language, rest }: Block) => (language === "sh" && rest !== "no-run") || (language === "js" && rest === "run") || (language === "go" && hasGo);
const nameOf = ({ rest }: Block) => /^file=(\S+)$/.exec(rest)?.[1];

t.test("every block says what it is", async (t) => {
  for (const page of pages) {
    for (const block of page.blocks) {
      const where = `${page.path}:${block.line}`;
      const { language, rest } = block;
      t.ok(languages.has(language), `${where}: \`\`\`${language} is none of ${[...languages].join(", ")}`);
      const isGenerated = page.path.startsWith("docs/reference/") && language === "ts" && rest === "no-check";
      const words = { sh: ["", "no-run"], js: ["", "run"], ts: [""], json: ["", "data"] }[language] ?? [""];
      t.ok(words.includes(rest) || nameOf(block) !== undefined || isGenerated, `${where}: \`\`\`${language} ${rest}`);
      if (language === "sh" && rest === "no-run") t.ok(reasons.some(([has]) => has.test(block.text)), `${where}: a reason not to run it`);
    }
  }
});

t.test("blocks of JSON are configurations that a node takes, or data; YAML can be read", async (t) => {
  for (const { path, blocks } of pages) {
    for (const { language, rest, text, line } of blocks) {
      const where = `${path}:${line}`;
      if (language === "yaml") t.doesNotThrow(() => parse(text) as unknown, where);
      if (language !== "json") continue;
      t.doesNotThrow(() => {
        const values: unknown = JSON.parse(text);
        if (rest !== "data") resolveConfig({ file: { name: where, values } });
      }, where);
    }
  }
});

t.test("blocks of JavaScript and TypeScript have the right types", async (t) => {
  const folder = workFolder();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const files = new Map<string, string>();
  for (const { path, blocks } of pages) {
    const code = blocks.filter(({ language, rest }) => language === "js" || (language === "ts" && rest !== "no-check"));
    if (code.length === 0) continue;
    const file = join(folder, `${path.replace(/\W/g, "-")}.mts`);
    writeFileSync(file, moduleOf(code));
    files.set(file, path);
  }
  const compilerOptions = {
    target: "ES2023", module: "NodeNext", moduleResolution: "NodeNext", lib: ["ESNext", "DOM", "DOM.Iterable"], types: ["node"], strict: false, skipLibCheck: true, noEmit: true,
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [...files.keys()] }));
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(root, "node_modules/typescript-7/bin/tsc"), "-p", folder, "--pretty", "false"], { encoding: "utf8" });
  const problems = stdout.split("\n").filter(Boolean).map((line) => [...files].reduce((text, [file, path]) => text.replace(file.slice(file.lastIndexOf("/") + 1), path), line));
  t.ok(status === 0 || problems.length > 0, stderr);
  t.ok(files.size > 0);
  t.strictSame(problems, []);
});

for (const page of pages.filter(({ blocks }) => blocks.some(isScript))) {
  t.test(`${page.path}: what can run runs`, async (t) => {
    const folder = workFolder();
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const { code, said } = await runPage(page, folder);
    t.equal(code, 0, code === 0 ? "every block ends with 0" : said);
  });
}

/** A folder with the packages that a project of a reader would have. */
function workFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "flux-docs-"));
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<string, Record<string, string>>;
  const names = Object.keys({ ...dependencies, ...devDependencies });
  for (const name of names) {
    mkdirSync(dirname(join(folder, "node_modules", name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  }
  symlinkSync(root, join(folder, "node_modules/flux-gateway"));
  return folder;
}

/** Imports and declarations first, each name once; then block within block, so that each sees the names of those before and may use them again. */
function moduleOf(blocks: readonly Block[]): string {
  const imports = new Map<string, string>();
  const bodies = blocks.map(({ text }) => text.replace(/^import\s+(?:\{([^}]*)\}|(\w+)|(\* as \w+))\s+from\s+("[^"]+");?.*$/gm, (_, named?: string, plain?: string, all?: string, from?: string) => {
    for (const name of named?.split(",").map((one) => one.trim()).filter(Boolean) ?? []) imports.set(name.split(" as ").at(-1)!, `import { ${name} } from ${from};`);
    const whole = plain ?? all;
    if (whole !== undefined) imports.set(whole, `import ${whole} from ${from};`);
    return "";
  }).replace(/^declare .*$/gm, (line) => {
    imports.set(line, line);
    return "";
  }));
  return `${[...imports.values()].join("\n")}\n${bodies.join("\n{\n")}\n${"}".repeat(bodies.length - 1)}\nexport {};\n`;
}

const prelude = `
set -eo pipefail
declare -A nodes
finish() { for pid in "\${nodes[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done; }
trap finish EXIT
value_of() { local name=$1 found=$2; shift 2; while [ $# -gt 0 ]; do case "$1" in "$name") found=$2;; "$name"=*) found=\${1#*=};; esac; shift; done; echo "$found"; }
start_node() {
  local port admin; port=$(value_of --port "$FLUX_PORT" "$@"); admin=$(value_of --admin-port "$FLUX_ADMIN_PORT" "$@")
  if [ -n "\${nodes[$port]}" ]; then kill -TERM "\${nodes[$port]}"; wait "\${nodes[$port]}" || true; fi
  node "$DOCS_BIN" start "$@" > "node-$port.log" 2>&1 & nodes[$port]=$!
  while kill -0 "\${nodes[$port]}" 2>/dev/null; do
    curl -sfk -o /dev/null "http://127.0.0.1:$port/ready" && return 0
    sleep 0.2
  done
  cat "node-$port.log" >&2; return 1
}
flux-gateway() { if [ "$1" = start ]; then shift; start_node "$@"; else node "$DOCS_BIN" "$@"; fi; }
npx() { if [ "$1" = flux-gateway ]; then shift; flux-gateway "$@"; else command npx "$@"; fi; }
`;

async function runPage({ path, blocks }: Page, folder: string): Promise<{ code: number | null; said: string }> {
  const free = new Map<number, number>();
  for (const port of ports) free.set(port, await freePort("127.0.0.1"));
  const place = (text: string) => text.replace(/(?<=[\w\]]:|[Pp]ort(?:"?[:=]? ?)|listen\()\d{4}\b/g, (digits) => String(free.get(Number(digits)) ?? digits));
  const steps = blocks.flatMap((block, i) => {
    const { language, text, line } = block;
    const said = `echo "── ${path}:${line}"`;
    const name = nameOf(block);
    if (name !== undefined) {
      writeFileSync(join(folder, `.block-${i}`), `${place(text)}\n`);
      return [`mkdir -p "$(dirname ${name})"; cp .block-${i} ${name}`];
    }
    if (!isScript(block)) return [];
    if (language === "js") {
      writeFileSync(join(folder, `block-${i}.mjs`), place(text));
      return [said, `node --import ./websocket.mjs block-${i}.mjs`];
    }
    if (language === "go") {
      writeFileSync(join(folder, `block-${i}.go`), place(text));
      return [said, `go run block-${i}.go`];
    }
    // In the background it goes by itself, once it is ready.
    return [said, place(text).replace(/(flux-gateway start\b(?:[^\n\\]|\\\n)*?)\s*&\s*$/gm, "$1")];
  });
  // What Node 20 lacks and Node 22 has.
  writeFileSync(join(folder, "websocket.mjs"), 'import { WebSocket } from "ws";\nglobalThis.WebSocket ??= WebSocket;\n');
  writeFileSync(join(folder, "page.sh"), [prelude, ...steps].join("\n"));
  const env = {
    PATH: process.env.PATH ?? "", HOME: folder, DOCS_BIN: join(root, "dist/cli/main.js"), FLUX_DRAIN_MS: "0", FLUX_REACTORS: "1",
    FLUX_PORT: String(free.get(8080)), FLUX_ADMIN_PORT: String(free.get(8081)),
  };
  const child = spawn("timeout", ["--kill-after=5", "600", "bash", "page.sh"], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, said };
}
