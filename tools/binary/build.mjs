/**
 * Makes one executable file of the program (`npm run build:binary`): build/flux-gateway-linux-x64, with the Node that runs this script,
 * uWebSockets.js's binary for it, and everything else that a node needs. stub.cjs says how it starts.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { collect } from "./files.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const here = fileURLToPath(new URL(".", import.meta.url));
const out = join(root, "build");
const target = join(out, `flux-gateway-${process.platform}-${process.arch}`);
/** As Node's documentation names it, so that postject finds its place. */
const fuse = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

mkdirSync(out, { recursive: true });
const files = [["boot.cjs", readFileSync(join(here, "boot.cjs"))], ...collect()];
const manifest = [];
let at = 0;
for (const [name, bytes] of files) {
  manifest.push({ name, at, size: bytes.length, hash: createHash("sha256").update(bytes).digest("hex") });
  at += bytes.length;
}
const id = createHash("sha256").update(JSON.stringify(manifest)).digest("hex").slice(0, 24);
writeFileSync(join(out, "manifest"), JSON.stringify({ id, files: manifest }));
writeFileSync(join(out, "archive"), gzipSync(Buffer.concat(files.map(([, bytes]) => bytes))));
writeFileSync(join(out, "sea.json"), JSON.stringify({
  main: join(here, "stub.cjs"), output: join(out, "blob"), disableExperimentalSEAWarning: true,
  assets: { manifest: join(out, "manifest"), archive: join(out, "archive") },
}));
execFileSync(process.execPath, ["--experimental-sea-config", join(out, "sea.json")], { stdio: ["ignore", "ignore", "inherit"] });
copyFileSync(process.execPath, target);
// Only half of Node's size is code: the rest is symbols, where Node's packager left them in.
execFileSync(process.execPath, [join(root, "node_modules/postject/dist/cli.js"), target, "NODE_SEA_BLOB", join(out, "blob"), "--sentinel-fuse", fuse], { stdio: ["ignore", "ignore", "inherit"] });
console.log(`${target}: ${(statSync(target).size / 2 ** 20).toFixed(1)} MiB, with Node ${process.versions.node} and ${files.length} files of ${(at / 2 ** 20).toFixed(1)} MiB`);
