/**
 * What is used of the NATS client library that it does not document: private fields, and an inner method. Each has a way
 * to go on without it, so a change would be silent: slower, or a vague error. This fails instead, and names the version.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { connect, headers, StringCodec, type Msg } from "nats";
import { ProtocolHandler } from "nats/lib/nats-base-client/protocol.js";
import t from "tap";
import { shortenWays } from "../src/broker/nats/connection/shortcut.ts";
import { startNats } from "./support/nats.ts";
import { root } from "./support/root.ts";

const { version } = JSON.parse(readFileSync(join(root, "node_modules/nats/package.json"), "utf8")) as { version: string };
const known = "2.29.3";
const where = (file: string) => `nats ${version} has changed this since ${known}: see src/broker/nats/${file}`;

t.test(`what was looked into is nats ${known}`, async (t) => {
  t.equal(version, known, "look into the new version, then name it here");
});

t.test("a message keeps its bytes, and where its subject and headers are in them", async (t) => {
  const { url } = await startNats(t, { jetStream: false });
  const connection = await connect({ servers: url });
  t.teardown(() => connection.close());
  const subscription = connection.subscribe("a.7");
  const fields = headers();
  fields.set("Nats-Sequence", "12");
  connection.publish("a.7", StringCodec().encode("payload"), { headers: fields });
  let message: Msg | undefined;
  for await (message of subscription) break;
  const raw = message as unknown as { readonly _rdata: Uint8Array; readonly _msg: { readonly hdr: number; readonly subject: Uint8Array } };
  t.equal(Buffer.from(raw._msg.subject).toString(), "a.7", where("wire/raw.ts"));
  t.equal(Buffer.from(raw._rdata.subarray(0, raw._msg.hdr)).toString(), "NATS/1.0\r\nNats-Sequence: 12\r\n\r\n", where("wire/raw.ts"));
  t.equal(Buffer.from(raw._rdata.subarray(raw._msg.hdr)).toString(), "payload", where("wire/raw.ts"));
});

t.test("a connection knows its servers, when it tried each last, and its last error", async (t) => {
  const { url } = await startNats(t, { jetStream: false });
  const connection = await connect({ servers: url });
  t.teardown(() => connection.close());
  const { protocol } = connection as unknown as { readonly protocol: { readonly servers: { readonly servers: { lastConnect: unknown }[] } } };
  t.type(protocol.servers.servers[0]!.lastConnect, "number", where("connection/connection.ts, forgetTheFuture"));
  const handler = protocol as unknown as { processError(line: Uint8Array): void; readonly lastError?: Error };
  handler.processError(Buffer.from("'some refusal'"));
  t.match(handler.lastError?.message, /some refusal/, where("connection/connection.ts, lastErrorOf"));
});

t.test("a line -ERR comes to processError, and an attempt to connect ends by connectError", async (t) => {
  const prototype = ProtocolHandler.prototype as unknown as { readonly processError?: unknown };
  t.type(prototype.processError, "function", where("connection/handshake.ts"));
  const source = readFileSync(join(root, "node_modules/nats/lib/nats-base-client/protocol.js"), "utf8");
  t.match(source, /this\.processError\(e\.data\)/, where("connection/handshake.ts"));
  t.match(source, /this\.connectError = \(err\) =>/, where("connection/handshake.ts"));
});

t.test("bytes of a socket reach the parser without the library's iterator, and a write has no promise", async (t) => {
  shortenWays();
  const { url } = await startNats(t, { jetStream: false });
  const connection = await connect({ servers: url });
  t.teardown(() => connection.close());
  const { protocol } = connection as unknown as { readonly protocol: { readonly transport: { readonly socket: Socket; readonly yields: unknown[]; send(bytes: Uint8Array): unknown }; readonly parser: { parse(bytes: Uint8Array): void } } };
  const { transport, parser } = protocol;
  const { parse } = parser;
  let parsed = 0;
  let waiting = 0;
  parser.parse = (bytes) => {
    parsed++;
    waiting += transport.yields.length;
    parse.call(parser, bytes);
  };
  t.equal(transport.send(Buffer.from("PING\r\n")), undefined, where("connection/shortcut.ts"));
  await once(transport.socket, "data");
  t.equal(parsed, 1, where("connection/shortcut.ts"));
  t.equal(waiting, 0, where("connection/shortcut.ts"));
  t.equal(transport.socket.listenerCount("data"), 1, where("connection/shortcut.ts"));
});
