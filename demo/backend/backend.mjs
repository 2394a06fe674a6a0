// A small backend for the demo: it decides who may connect, is told who came and went, and publishes. Node alone, no packages.
//
//   export HOOK_SECRET=whsec_$(openssl rand -base64 32)
//   node demo/backend/backend.mjs &
//   flux-gateway start --hook-secret "$HOOK_SECRET" --hook-connect http://127.0.0.1:3000/hooks/connect \
//     --webhooks '{"demo":{"url":"http://127.0.0.1:3000/webhooks"}}' --webhooks-allow-private
//
// A client connects with one of the tokens below: ws://127.0.0.1:8080/ws?token=ann-1234
// Its page, http://127.0.0.1:3000/, shows what it was told, and has a button that publishes.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const port = Number(process.env.PORT ?? 3000);
const host = process.env.HOST ?? "127.0.0.1";
/** The HTTP API of a node, and a key for it where it needs one. */
const api = process.env.API_URL ?? "http://127.0.0.1:8081";
const apiKey = process.env.API_KEY ?? "";
const room = process.env.ROOM ?? "chat:general";
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
function connect({ token, anonymous }) {
  // A guest, where the gateway allows anonymous clients.
  if (token === undefined && anonymous === true) return { allow: true };
  const login = logins.get(token);
  if (login === undefined) return { allow: false, code: 4500, reason: "unknown token" };
  if (login.isBanned) return { allow: false, code: 4501, reason: "banned" };
  // The same token gets the same answer for ten seconds, unasked.
  return { allow: true, user: login.user, rooms: login.rooms, maxAgeMs: 10_000 };
}

/** Events by id: a webhook may send one again. A database would have a unique index. */
const told = new Map();
const toldMax = 1000;

function webhook({ type, timestamp, data }, id) {
  if (told.has(id)) return null;
  told.set(id, `${timestamp} ${type} ${[data.room, data.user].filter(Boolean).join(" ")}`);
  if (told.size > toldMax) told.delete(told.keys().next().value);
  return null;
}

/** Null: there is nothing to say but that it was taken. */
const signed = { "/hooks/connect": connect, "/webhooks": webhook };

const escaped = (text) => text.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`);

function page(response) {
  const rows = [...told.values()].slice(-50).reverse().map((text) => `<li>${escaped(text)}</li>`);
  const form = `<form method="post" action="/publish"><button>Publish to ${escaped(room)}</button></form>`;
  response.setHeader("Content-Type", "text/html; charset=utf-8").end(`<!doctype html><meta http-equiv="refresh" content="5"><title>Backend</title>${form}<ul>${rows.join("")}</ul>`);
}

async function publish(response) {
  const headers = { "Content-Type": "application/json", ...(apiKey !== "" && { Authorization: `Bearer ${apiKey}` }) };
  const body = JSON.stringify({ data: { text: "Hello from the backend", at: new Date().toISOString() } });
  const { status } = await fetch(`${api}/api/v1/rooms/${encodeURIComponent(room)}/publications`, { method: "POST", headers, body });
  if (status === 201) response.writeHead(303, { Location: "/" }).end();
  else response.writeHead(502).end(`the gateway answered ${status}`);
}

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
  const { url, method } = request;
  if (method === "GET" && url === "/") return page(response);
  // The page's own button: another site's page would have it publish.
  if (method === "POST" && url === "/publish") return request.headers["sec-fetch-site"] === "cross-site" ? response.writeHead(403).end() : publish(response);
  const answerTo = Object.hasOwn(signed, url) ? signed[url] : undefined;
  if (answerTo === undefined || method !== "POST") return response.writeHead(404).end();
  const body = await bodyOf(request);
  if (body === null) return response.writeHead(413).end();
  if (!isSigned(request.headers, body)) return response.writeHead(401).end();
  const said = answerTo(JSON.parse(body), request.headers["webhook-id"]);
  if (said === null) return response.writeHead(204).end();
  response.setHeader("Content-Type", "application/json").end(JSON.stringify(said));
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
