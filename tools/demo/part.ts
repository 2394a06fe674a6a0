/** One process of the cluster: started, and started again when it ends. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";

export interface PartOptions {
  readonly restartMs: number;
  readonly say: (text: string) => void;
  readonly env?: Readonly<Record<string, string>>;
  /** As which user it runs. */
  readonly user?: { readonly uid?: number; readonly gid?: number };
  /** Ends it. */
  readonly signal?: NodeJS.Signals;
}

const patienceMs = 5_000;

export class Part {
  readonly name: string;
  readonly #command: string;
  readonly #args: readonly string[];
  readonly #options: PartOptions;
  #child: ChildProcess | null = null;
  #stopping = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(name: string, command: string, args: readonly string[], options: PartOptions) {
    this.name = name;
    this.#command = command;
    this.#args = args;
    this.#options = options;
  }

  get runs(): boolean {
    return this.#child !== null;
  }

  /** Resolves when the process runs. */
  async start(): Promise<void> {
    const { say, env, user } = this.#options;
    const child = spawn(this.#command, this.#args, { ...user, stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...env, NODE_OPTIONS: "" } });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-1000)));
    child.once("error", (error) => say(`${this.name} cannot be run (${error.message}): install it with "bash test/support/services.sh"`));
    child.once("exit", (code, signal) => {
      this.#child = null;
      if (this.#stopping) return;
      say(`${this.name} has ended (${signal ?? code}) and is started again${signal === null && said !== "" ? `: ${said.trim()}` : ""}`);
      this.#timer = setTimeout(() => void this.start().catch(() => undefined), this.#options.restartMs);
    });
    await once(child, "spawn");
    this.#child = child;
    say(`${this.name} runs: process ${child.pid}`);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === null) return;
    const exit = once(child, "exit");
    child.kill(this.#options.signal ?? "SIGTERM");
    const kill = setTimeout(() => child.kill("SIGKILL"), patienceMs);
    await exit;
    clearTimeout(kill);
  }
}
