/**
 * For health checks of containers, which have no curl: asks the node in this container whether it lives, by the port and
 * the certificate of its environment. It loads nothing else, since it is asked every few seconds.
 */
import { get as overHttp } from "node:http";
import { get as overHttps } from "node:https";

const timeoutMs = 2500;
const { FLUX_PORT: port = "8080", FLUX_TLS_CERT: certificate = "" } = process.env;

/** Its certificate is for the name by which clients know it. */
const options = { port, path: "/health", timeout: timeoutMs, rejectUnauthorized: false };
const request = (certificate === "" ? overHttp : overHttps)(options, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1));
request.on("timeout", () => process.exit(1)).on("error", () => process.exit(1));
