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
    plugins: [withoutUnused],
    ...options,
  });
}

/**
 * Parts of protobufjs that the protocol does not use: services, and fields of type float and double. The client reads
 * 64-bit numbers as numbers, so it does without the package `long`, too, which is an eighth of the bundle.
 */
const withoutUnused = {
  name: "without-unused",
  setup(build) {
    const namespace = "nothing";
    build.onResolve({ filter: /^long$/ }, () => ({ path: "long", namespace }));
    build.onResolve({ filter: /^\.\/(rpc|float|eventemitter|aspromise)$/ }, ({ path, importer }) => (importer.includes("protobufjs") ? { path, namespace } : undefined));
    build.onLoad({ filter: /.*/, namespace }, ({ path }) => ({ contents: `module.exports = ${path === "long" ? "undefined" : "{}"};` }));
  },
};
