// A small backend for the demo: it decides who may connect. Node alone, no packages.
//
//   export HOOK_SECRET=whsec_$(openssl rand -base64 32)
//   node demo/backend/backend.mjs &
//   flux-gateway start --hook-secret "$HOOK_SECRET" --hook-connect http://127.0.0.1:3000/hooks/connect
//
// A client connects with one of the tokens below: ws://127.0.0.1:8080/ws?token=ann-1234
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const port = Number(process.env.PORT ?? 3000);
const host = process.env.HOST ?? "127.0.0.1";
const key = Buffer.from((process.env.HOOK_SECRET ?? "").replace(/^whsec_/, ""), "base64");
if (key.length < 24) throw new Error("HOOK_SECRET: set it to the gateway's --hook-secret");

/** What a database would know: logins, and the rooms of each user. */
const logins = new Map([
  ["ann-1234", { user: "ann", rooms: ["chat:general", "chat:team"] }],
  ["bob-5678", { user: "bob", rooms: ["chat:general"] }],
  ["eve-0000", { user: "eve", rooms: [], isBanned: true }],
]);

const bodyBytesMax = 1024 * 1024;
/** Older questions may have been overheard and sent again. */
const ageSecondsMax = 300;

/** Whether the gateway has sent this body (Standard Webhooks). */
function isSigned(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures = "" } = headers;
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= ageSecondsMax)) return false;
  const wanted = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return signatures.split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  });
}

/** The verdict about a new session. */
function connect({ token }) {
  const login = logins.get(token);
  if (login === undefined) return { allow: false, code: 4500, reason: "unknown token" };
  if (login.isBanned) return { allow: false, code: 4501, reason: "banned" };
  // The same token gets the same answer for ten seconds, unasked.
  return { allow: true, user: login.user, rooms: login.rooms, maxAgeMs: 10_000 };
}

const hooks = { "/hooks/connect": connect };

async function bodyOf(request) {
  const pieces = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += piece.length;
    if (bytes > bodyBytesMax) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function answer(request, response) {
  const hook = hooks[request.url];
  if (hook === undefined || request.method !== "POST") return response.writeHead(404).end();
  const body = await bodyOf(request);
  if (body === null) return response.writeHead(413).end();
  if (!isSigned(request.headers, body)) return response.writeHead(401).end();
  response.setHeader("Content-Type", "application/json").end(JSON.stringify(hook(JSON.parse(body))));
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
});
// Longer than the gateway keeps idle connections.
server.keepAliveTimeout = 60_000;
server.listen(port, host, () => console.log(`backend: http://${host}:${server.address().port}`));
