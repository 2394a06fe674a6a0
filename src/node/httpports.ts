/** The ports for operators and backends: the admin port, that of the metrics, and that of the HTTP API. */
import { startAdmin, startMetrics, type Served } from "../admin/admin.ts";
import { apiBounds, startServer, type HttpServer } from "../admin/server.ts";
import { ConfigError, type Config } from "../config/config.ts";
import { NodeExchange } from "../http/exchange/nodehttp.ts";
import type { HttpApis } from "./httpapis.ts";
import type { Logger } from "../platform/log/log.ts";
import { listenProblem } from "./ports.ts";

export interface HttpPorts {
  readonly admin: number;
  /** The admin port, unless it has one of its own. */
  readonly api: number;
  /** Null: there is none. */
  readonly metrics: number | null;
  /** The HTTP API refuses every later request. */
  leave(): void;
  close(): Promise<unknown>;
}

/** @throws ConfigError */
export async function startPorts(config: Config, log: Logger, http: HttpApis, served: Served): Promise<HttpPorts> {
  const { adminHost, adminPort, adminKey, metricsHost, metricsPort, apiHost, apiPort } = config;
  const opened: HttpServer[] = [];
  const open = async (flag: string, host: string, port: number, start: () => Promise<HttpServer>): Promise<number> => {
    try {
      const server = await start();
      opened.push(server);
      return server.port;
    } catch (error) {
      await close();
      throw new ConfigError([listenProblem(`--${flag}-host`, `--${flag}-port`, host, port, error)]);
    }
  };
  const close = () => Promise.all(opened.map((one) => one.close()));
  const serve: Served["api"] = (req, res) => http.own.serve(new NodeExchange(req, res));
  const own = { host: apiHost || "127.0.0.1", port: apiPort ?? 0 };
  const alone = { host: metricsHost || "127.0.0.1", port: metricsPort ?? 0 };

  const admin = await open("admin", adminHost, adminPort, () => startAdmin({ host: adminHost, port: adminPort, key: adminKey, log }, { ...served, ...(apiPort === null && { api: serve }) }));
  const api = apiPort === null ? admin : await open("api", own.host, own.port, () => startServer(own, { name: "http api", bounds: apiBounds, log }, serve));
  const metrics = metricsPort === null ? null : await open("metrics", alone.host, alone.port, () => startMetrics(alone, served.metrics, log));
  return { admin, api, metrics, leave: () => http.close(), close };
}
