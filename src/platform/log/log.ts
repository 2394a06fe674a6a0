/** The node's log: pino, as JSON lines for machines or in one readable line per record for people. */
import { createRequire } from "node:module";
import pino, { type DestinationStream, type LogFn, type Logger } from "pino";
import type { prettyFactory as PrettyFactory } from "pino-pretty";
import { eventOf } from "./events.ts";
import { logOutput } from "./output.ts";

export type { Logger } from "pino";

/** The options with these names. */
interface LogConfig {
  readonly logLevel: string;
  readonly logFormat: string;
  readonly nodeId: string;
}

/** Credentials of clients are never logged, whichever object contains them. */
const secrets = ["token", "resumeToken", "authorization", "Authorization", "cookie", "Cookie", "password", "secret", "authSecret", "authSecretPrevious", "resumeSecret", "adminKey", "natsPassword", "natsToken", "tlsPassphrase"];
const depths = ["", "*.", "*.*.", "*.*.*."];
const hidden = "[hidden]";
const secretInUrl = /([?&;](?:token|access_token|resume_token|resume|key)=)[^&;#\s]*/gi;

const forMachines = {
  timestamp: pino.stdTimeFunctions.isoTime,
  formatters: { level: (label: string) => ({ level: label }) },
};

/** @param destination for finished lines, written at once. Default: standard output. */
export function createLogger(config: LogConfig, destination?: DestinationStream): Logger {
  const options = {
    level: config.logLevel,
    // At a terminal, people know which node it is. In a store with the lines of many nodes, each line needs the node's
    // name.
    base: config.logFormat === "json" ? { node: config.nodeId } : null,
    redact: { paths: depths.flatMap((depth) => secrets.map((name) => depth + name)), censor: hidden },
    // People read the text.
    ...(config.logFormat === "json" && { hooks: { logMethod: named } }),
    serializers: { url: hideInUrl, error: pino.stdSerializers.err },
    ...(config.logFormat === "json" && forMachines),
  };
  // Nothing is logged on the data path. So synchronous writes cost little, and none is lost at exit.
  const out = destination ?? logOutput();
  return pino(options, config.logFormat === "json" ? out : prettyStream(out, destination === undefined));
}

/** Gives the line the name of its event (events.ts), unless it has one. */
function named(this: Logger, args: Parameters<LogFn>, method: LogFn): void {
  const [fields, text] = args as unknown as [unknown, unknown];
  if (typeof fields === "string") return method.apply(this, [{ event: eventOf(fields) || "other" }, ...(args as unknown[])] as unknown as Parameters<LogFn>);
  if (typeof text === "string" && typeof fields === "object" && fields !== null && !("event" in fields)) {
    return method.apply(this, [{ event: eventOf(text) || "other", ...fields }, text] as unknown as Parameters<LogFn>);
  }
  method.apply(this, args);
}

/** Control characters that some terminals obey and JSON does not escape. Text from clients may contain them. */
const orders = /[\u0080-\u009f]/g;

/** Loaded when people read the log: machines need not wait for it. */
const load = createRequire(import.meta.url);

/** pino-pretty's own stream writes in a later turn of the event loop: the last lines would be lost at exit. */
function prettyStream(out: DestinationStream, isStdout: boolean): DestinationStream {
  const colorize = isStdout && process.stdout.isTTY && process.env.NO_COLOR === undefined;
  const { prettyFactory } = load("pino-pretty") as { readonly prettyFactory: typeof PrettyFactory };
  const prettify = prettyFactory({ colorize, singleLine: true, translateTime: "SYS:HH:MM:ss.l" });
  return { write: (line) => out.write((prettify(line) ?? line).replace(orders, "")) };
}

function hideInUrl(url: unknown): unknown {
  return typeof url === "string" ? url.replace(secretInUrl, `$1${hidden}`) : url;
}
