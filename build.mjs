// Builds dist/ from src/ and proto/: protocol code, JavaScript with types, and what browsers load.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { build } from "esbuild";

const bin = (name) => `node_modules/.bin/${name}`;
const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });

mkdirSync("src/protocol/generated", { recursive: true });
run(bin("pbjs"), "-t", "static-module", "-w", "esm", "--dts", "--force-number", "--no-service",
  "--no-delimited", "--no-typeurl", "--no-convert", "--no-create", "--no-verify",
  "--dependency", "protobufjs/minimal.js", "-o", "src/protocol/generated/flux.js", "proto/flux.proto");

rmSync("dist", { recursive: true, force: true });
run(bin("tsc"), "-p", "tsconfig.build.json");
cpSync("src/protocol/generated", "dist/protocol/generated", { recursive: true });
cpSync("src/demo", "dist/demo", { recursive: true });
chmodSync("dist/cli/main.js", 0o755);
linkCommand("node_modules/.bin/flux-gateway", "../../dist/cli/main.js");

const browser = { bundle: true, minify: true, sourcemap: true, target: "es2022", logLevel: "warning" };
await build({ ...browser, entryPoints: ["src/client/index.ts"], format: "esm", outfile: "dist/browser/flux-client.js" });

/** In a clone, lets `npx flux-gateway` find the command at once; it would install the clone into its cache first. */
function linkCommand(path, target) {
  if (process.platform === "win32" || !existsSync("node_modules/.bin")) return;
  rmSync(path, { force: true });
  symlinkSync(target, path);
}
