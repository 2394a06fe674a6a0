// Bundles the client into one module without dependencies.
import { build } from "esbuild";

/** Modules of src/client that applications import: `index` is the package flux-gateway-client itself, `react` its path `/react`. */
export const clientEntries = ["index", "react"];

/** @param options of esbuild, override the defaults */
export function bundleClient(options) {
  return build({
    entryPoints: ["src/client/index.ts"],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    logLevel: "warning",
    ...options,
  });
}
