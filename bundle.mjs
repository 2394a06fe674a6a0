// The client as browsers load it: one module, which needs nothing else.
import { build } from "esbuild";

/** @param options of esbuild, laid over ours */
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

/** protobufjs takes the package `long` where it finds it. We read 64-bit numbers as numbers, and it is an eighth of the bundle. */
const withoutLong = {
  name: "without-long",
  setup(build) {
    build.onResolve({ filter: /^long$/ }, () => ({ path: "long", namespace: "nothing" }));
    build.onLoad({ filter: /.*/, namespace: "nothing" }, () => ({ contents: "module.exports = undefined;" }));
  },
};
