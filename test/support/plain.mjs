/**
 * Loaded before everything else that runs for tap (by NODE_OPTIONS, in package.json). tap writes down which files each
 * test loads, and nothing here reads that. It does so with a loader on a thread of its own, which makes every import
 * slow, and hands the loader by NODE_OPTIONS to all that a test starts: a node in a test takes three times as long to
 * begin. tap has no option against it, so its loaders are not registered (that of t.mockImport, which no test uses, neither), and
 * nothing is handed on.
 */
import module from "node:module";

const { register } = module;
module.register = (specifier, ...rest) => {
  if (!String(specifier).includes("/@tapjs/")) register(specifier, ...rest);
};
module.syncBuiltinESMExports();

// tap itself hands this file on to the tests; a test hands it to nobody.
if (process.env.TAP_CHILD_ID !== undefined) delete process.env.NODE_OPTIONS;
