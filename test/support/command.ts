/** The built command, run until it has ended. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export const bin = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/**
 * For `env`, which becomes the command. tap has every process below it write down what it loads, which takes the command
 * three times as long to start.
 */
export const plainly = (args: readonly string[]): string[] => ["-u", "NODE_OPTIONS", bin, ...args];

export function command(args: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn("env", plainly(args), { stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env.PATH ?? "" } });
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, out, err })));
}
