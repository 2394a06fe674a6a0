// Bundles the browser client into one module without dependencies.
import { build } from "esbuild";

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
