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
    plugins: [withoutLong],
    ...options,
  });
}

/**
 * protobufjs uses the package `long` if it finds it. The client reads 64-bit numbers as numbers, and `long` is an
 * eighth of the bundle.
 */
const withoutLong = {
  name: "without-long",
  setup(build) {
    build.onResolve({ filter: /^long$/ }, () => ({ path: "long", namespace: "nothing" }));
    build.onLoad({ filter: /.*/, namespace: "nothing" }, () => ({ contents: "module.exports = undefined;" }));
  },
};
