/** Takes calls of the HTTP API from NATS, on a connection of its own. All nodes of the gateway share them. */
import { headers, type Msg } from "nats";
import { connectNats, listen, watchNats } from "../broker/nats/connection/connection.ts";
import { NatsProblem } from "../broker/nats/connection/access.ts";
import { ConfigError, showValue, type Config } from "../config/config.ts";
import type { MessageAnswer } from "../http/exchange/message.ts";
import type { NatsInput } from "../http/natsinput.ts";
import { problems, problemText, refusal } from "../protocol/problems.ts";
import type { Logger } from "../platform/log/log.ts";
import { printable } from "../platform/log/quoted.ts";
import { Sparse } from "../platform/log/sparse.ts";

export interface NatsApi {
  /** Takes no more requests, and answers those that came. */
  stop(): Promise<void>;
}

/** How long a node that stops waits for the answers to requests that it took. */
const drainMs = 5_000;

/** @throws ConfigError */
export async function startNatsApi(config: Config, input: NatsInput, log: Logger): Promise<NatsApi> {
  const { nats: servers, natsUser: user, natsPassword: password, natsToken: token, natsCreds: creds, natsPrefix: prefix } = config;
  const { natsTlsCa: tlsCa, natsTlsCert: tlsCert, natsTlsKey: tlsKey } = config;
  const subject = `${prefix}.api.`;
  try {
    const connection = await connectNats({ servers, user, password, token, creds, tlsCa, tlsCert, tlsKey }, `${config.nodeId} api`);
    const refusals = new Sparse();
    const warn = (reason: string, text: string, fields: object = {}) => {
      const unsaid = refusals.due(reason);
      if (unsaid !== null) log.warn({ ...fields, ...(unsaid > 0 && { unsaid }) }, text);
    };
    watchNats(connection, log, { disconnected() {}, reconnected() {}, refused: (denied, problem) => warn("denied", "NATS API: the server refuses this; correct the permissions of the node's user", { ...denied, problem }) });
    const receive = (message: Msg) => {
      const { subject: full, reply = "", data: payload } = message;
      // The node may publish where the backend may not: into streams, or to JetStream itself.
      if (reply !== "" && !reply.startsWith("_")) return warn("reply", "NATS API: a request was dropped: its reply subject is no inbox, which begins with _", { reply: printable(reply.slice(0, 64)) });
      const header = (name: string) => message.headers?.get(name) ?? "";
      input.receive({ subject: full.slice(subject.length), payload, header, answer: reply === "" ? null : (answer) => respond(message, answer) });
    };
    const denied = () => log.error({ subject: `${subject}>` }, "NATS API: the user of this node may not subscribe to this; allow it, or remove --nats-api");
    const subscription = listen(connection, `${subject}>`, log, receive, denied, `${prefix}-api`);
    await connection.flush();
    return {
      async stop() {
        // Answers that are not ready in time are lost: the backend repeats the request with its key.
        const answered = subscription.drain().then(() => input.idle()).then(() => connection.drain());
        await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, drainMs).unref())]).catch(() => undefined);
        if (!connection.isClosed()) await connection.close();
      },
    };
  } catch (error) {
    throw error instanceof NatsProblem ? new ConfigError([`--nats ${showValue(config, "nats")}: ${error.message}`]) : error;
  }
}

const utf8 = new TextEncoder();

/** The headers are those of NATS services: tools show them as errors. */
function respond(message: Msg, { status, text }: MessageAnswer): void {
  const more = headers();
  more.set("Status", String(status));
  if (status >= 400) {
    more.set("Nats-Service-Error-Code", String(status));
    more.set("Nats-Service-Error", (JSON.parse(text || "{}") as { code?: string }).code ?? "internal");
  }
  try {
    message.respond(utf8.encode(text), { headers: more });
  } catch (error) {
    // The library throws where the answer is larger than the server takes.
    if (status === problems.too_large.status) throw error;
    respond(message, { status: problems.too_large.status, text: problemText(refusal("too_large", "the answer is larger than max_payload of NATS; ask for a smaller page"), "") });
  }
}
