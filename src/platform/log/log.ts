/** The node's log: pino, as JSON lines for machines or in one readable line per record for people. */
import pino, { type DestinationStream, type Logger } from "pino";
import { prettyFactory } from "pino-pretty";
import { logOutput } from "./output.ts";

export type { Logger } from "pino";

/** The options of this name. */
interface LogConfig {
  readonly logLevel: string;
  readonly logFormat: string;
  readonly nodeId: string;
}

/** What proves who a client is never gets into a log, whatever the object that carries it. */
const secrets = ["token", "resumeToken", "authorization", "Authorization", "cookie", "Cookie", "password", "secret", "authSecret", "authSecretPrevious", "resumeSecret", "adminKey", "natsPassword", "natsToken", "tlsPassphrase"];
const depths = ["", "*.", "*.*.", "*.*.*."];
const hidden = "[hidden]";
const secretInUrl = /([?&;](?:token|access_token|resume_token|resume|key)=)[^&;#\s]*/gi;

const forMachines = {
  timestamp: pino.stdTimeFunctions.isoTime,
  formatters: { level: (label: string) => ({ level: label }) },
};

/** @param destination of the finished lines, the process's standard output unless given; written to at once. */
export function createLogger(config: LogConfig, destination?: DestinationStream): Logger {
  const options = {
    level: config.logLevel,
    // A person at a terminal knows which node it is; lines of many nodes in one store need its name.
    base: config.logFormat === "json" ? { node: config.nodeId } : null,
    redact: { paths: depths.flatMap((depth) => secrets.map((name) => depth + name)), censor: hidden },
    serializers: { url: hideInUrl, error: pino.stdSerializers.err },
    ...(config.logFormat === "json" && forMachines),
  };
  // Nothing is logged on the data path, so waiting for each line costs little and loses none at exit.
  const out = destination ?? logOutput();
  return pino(options, config.logFormat === "json" ? out : prettyStream(out, destination === undefined));
}

/** Some terminals obey these too, and JSON does not escape them; what strangers wrote may have them. */
const orders = /[\u0080-\u009f]/g;

/** pino-pretty's own stream hands lines on only at a later turn of the loop: the last ones would be lost at exit. */
function prettyStream(out: DestinationStream, isStdout: boolean): DestinationStream {
  const colorize = isStdout && process.stdout.isTTY && process.env.NO_COLOR === undefined;
  const prettify = prettyFactory({ colorize, singleLine: true, translateTime: "SYS:HH:MM:ss.l" });
  return { write: (line) => out.write((prettify(line) ?? line).replace(orders, "")) };
}

function hideInUrl(url: unknown): unknown {
  return typeof url === "string" ? url.replace(secretInUrl, `$1${hidden}`) : url;
}
