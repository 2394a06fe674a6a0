#!/usr/bin/env -S node --max-semi-space-size=2
/** The command `flux-gateway`. */
import { ConfigError } from "../config/config.ts";
import { createProgram } from "./program.ts";

// Whoever read our output may go away; the node must not go with them.
process.stdout.on("error", () => undefined);
process.stderr.on("error", () => undefined);

try {
  await createProgram().parseAsync();
} catch (error) {
  // What the operator can put right is told in a line each; anything else is our mistake, and its stack is wanted.
  const lines = error instanceof ConfigError ? error.problems : [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  for (const line of lines) process.stderr.write(`error: ${line}\n`);
  process.exit(1);
}
