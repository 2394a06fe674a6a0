#!/usr/bin/env -S node --max-semi-space-size=2
/** The command `flux-gateway`. */
import { ConfigError } from "../config/config.ts";
import { createProgram } from "./program.ts";

// The reader of our output may close it; that must not end the node.
process.stdout.on("error", () => undefined);
process.stderr.on("error", () => undefined);

try {
  await createProgram().parseAsync();
} catch (error) {
  // An operator's error is one line per problem. Any other error is a bug, and its stack helps.
  const lines = error instanceof ConfigError ? error.problems : [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  for (const line of lines) process.stderr.write(`error: ${line}\n`);
  process.exit(1);
}
