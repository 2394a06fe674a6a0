/**
 * Packs the client as a package of its own, flux-gateway-client, from the same source: `npm run pack:client -- [FOLDER]`.
 * Writes its content to build/client, and the tarball into FOLDER (default: build). Prints the tarball's path.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { clientEntries } from "../../bundle.mjs";

const project = fileURLToPath(new URL("../..", import.meta.url));
const name = "flux-gateway-client";

/** @returns {Promise<string>} path of the tarball */
export async function packClient(folder = join(project, "build")) {
  const content = join(project, "build/client");
  rmSync(content, { recursive: true, force: true });
  mkdirSync(content, { recursive: true });
  mkdirSync(folder, { recursive: true });
  await build({
    absWorkingDir: project,
    entryPoints: clientEntries.map((name) => `dist/client/${name}.js`),
    outdir: content,
    bundle: true,
    splitting: true,
    chunkNames: "chunk-[hash]",
    format: "esm",
    target: "es2022",
    packages: "external",
    logLevel: "warning",
  });
  for (const one of clientEntries) cpSync(join(project, `dist/client/${one}.d.ts`), join(content, `${one}.d.ts`));
  cpSync(join(project, "dist/browser/flux-client.js"), join(content, "flux-client.js"));
  for (const one of ["LICENSE", "CHANGELOG.md"]) cpSync(join(project, one), join(content, one));
  cpSync(join(project, "tools/client/README.md"), join(content, "README.md"));
  writeFileSync(join(content, "package.json"), `${JSON.stringify(manifest(), null, 2)}\n`);
  const tarball = execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", resolve(folder)], { cwd: content, encoding: "utf8" }).trim();
  return join(resolve(folder), tarball);
}

function manifest() {
  const { version, license } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
  return {
    name,
    version,
    description: "The client of flux-gateway, for browsers, Node, Bun and Deno: rooms that resume, and report every gap.",
    license,
    type: "module",
    sideEffects: false,
    exports: {
      ...Object.fromEntries(clientEntries.map((one) => [one === "index" ? "." : `./${one}`, { types: `./${one}.d.ts`, default: `./${one}.js` }])),
      "./flux-client.js": { types: "./index.d.ts", default: "./flux-client.js" },
      "./package.json": "./package.json",
    },
    // For moduleResolution "node" (node10), which does not read exports.
    main: "./index.js",
    types: "./index.d.ts",
    // For its path /react alone.
    peerDependencies: { react: ">=18" },
    peerDependenciesMeta: { react: { optional: true } },
    engines: { node: ">=20.19" },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(await packClient(process.argv[2]));
