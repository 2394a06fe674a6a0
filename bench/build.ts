/**
 * Compiles load threads and control servers to JavaScript, so that a server under test runs nothing else and worker
 * threads need no loader. Also builds flux-gateway, since the real command is measured.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { buildSync } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const outdir = `${root}node_modules/.cache/flux-bench`;

export const fluxCommand = `${root}dist/cli/main.js`;
export const workerScript = new URL("load/worker.js", pathToFileURL(`${outdir}/`));
export const membersScript = new URL("load/members.js", pathToFileURL(`${outdir}/`));

/** On the same disk as the project. */
export const scratchFolder = `${outdir}/scratch`;

export function controlScript(name: string): string {
  return `${outdir}/servers/${name}.js`;
}

export function buildBench(): void {
  buildSync({
    entryPoints: ["load/worker", "load/members", "servers/uws", "servers/ws", "servers/nodehttp", "servers/hookbackend", "servers/webhookreceiver", "servers/socketio", "servers/natsclient"].map((name) => `${root}bench/${name}.ts`),
    outbase: `${root}bench`,
    outdir,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    sourcemap: "inline",
  });
}

export function buildFlux(): void {
  execFileSync(process.execPath, ["build.mjs"], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
}
