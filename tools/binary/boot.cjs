/** Runs what the command line names, from the unpacked folder. `health` is the health check of the image. */
"use strict";
const [, , command] = process.argv;
import(command === "health" ? "./dist/cli/health.js" : "./dist/cli/main.js").catch((error) => {
  process.stderr.write(`error: ${error.stack}\n`);
  process.exit(1);
});
