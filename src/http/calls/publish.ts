/** Publishing: one, into many rooms, a batch, and direct messages. */
import * as z from "zod";
import type { Payload } from "../../api/checks.ts";
import { ApiError } from "../../api/error.ts";
import type { Answer, Published } from "../../broker/broker.ts";
import type { ErrorCode } from "../../errors.ts";
import { inboxKey, roomKey } from "../../protocol/roomkeys.ts";
import { b64, call, data, key, onlyTenant, position, type ApiNode } from "../call.ts";
import { cursorOf } from "../cursor.ts";
import { payloadIn } from "../payload.ts";
import { compare, failed, publish, type Failed } from "../publishing.ts";
import { problems } from "../../protocol/problems.ts";
import type { ApiRequest } from "../request.ts";

export const itemsMax = 1_000;
/** Publications of a batch in one turn of the event loop. */
const perTurn = 100;

const receivers = z.number().int().describe("Members of the room on this node. Members on other nodes are not counted.");
const duplicate = z.boolean().describe("The key was used before: the position is that of the first publication.");
const published = z.object({ position, receivers, duplicate });
const sent = z.object({ position, duplicate });
const refused = z.object({ error: z.object({ code: z.string(), detail: z.string(), retryable: z.boolean() }) });
const results = z.object({ results: z.array(z.union([published, refused])).describe("One for each, in the same order."), failed: z.number().int().describe("Results with an error.") });

const exclude = z.string().regex(/^[\w-]{1,64}$/, "must be the identifier of a session").optional().describe("Identifier of a session that does not get it, because it shows it already. History and recovery include it.");
const message = z.strictObject({ data, b64, key });
const content = z.strictObject({ data, b64, key, exclude });
const item = z.strictObject({ room: z.string().describe("Name of the room."), data, b64, key, exclude });

export const publishCall = call({
  name: "publish",
  method: "POST",
  path: "/rooms/:room/publications",
  scope: "publish",
  title: "Publish into a room",
  text: "Publishes into a room, also where the namespace has `publish: nobody`. The answer comes when the publication has its position; in a durable room it is stored then. After 503 or a lost connection, repeat the request with the same key.",
  query: onlyTenant,
  body: content,
  status: 201,
  answer: published,
  errors: ["unknown_namespace", "conflict", "too_large"],
  example: {
    path: "/rooms/chat:general/publications",
    body: { data: { text: "hi" }, key: "order-17" },
    answer: { position: "7awFeLlP:42", receivers: 3, duplicate: false },
  },
  publications: () => 1,
  serve(node, request) {
    const { config, rooms } = node;
    const room = roomKey(request.tenant, request.room("publish", config.roomNameBytesMax));
    const payload = payloadIn(request.body, request.dataText(), config.frameBytesMax);
    publishOne(node, request, room, payload, request.body.exclude, (value) => {
      const receivers = rooms.named(room)?.members ?? 0;
      request.answerText(201, `{"position":${JSON.stringify(cursorOf(value))},"receivers":${receivers},"duplicate":${value.duplicate}}`);
    });
  },
});

export const messageCall = call({
  name: "send",
  method: "POST",
  path: "/users/:user/messages",
  scope: "publish",
  title: "Send a direct message",
  text: "Sends a direct message into the inbox of a user, online or not. Clients get it when they join `@inbox`.",
  query: onlyTenant,
  body: message,
  status: 201,
  answer: sent,
  errors: ["conflict", "too_large"],
  example: { path: "/users/ann/messages", body: { data: { text: "your parcel is here" } }, answer: { position: "B3xq0aZk:7", duplicate: false } },
  publications: () => 1,
  serve(node, request) {
    const inbox = inboxKey(request.tenant, request.user());
    const payload = payloadIn(request.body, request.dataText(), node.config.frameBytesMax);
    publishOne(node, request, inbox, payload, undefined, (value) => request.answer(201, { position: cursorOf(value), duplicate: value.duplicate }));
  },
});

export const batchCall = call({
  name: "publishBatch",
  method: "POST",
  path: "/publications",
  scope: "publish",
  title: "Publish a batch",
  text: `Publishes up to ${itemsMax.toLocaleString("en")} publications. Those into the same room keep the order of the array. Each has a result of its own: one that fails does not stop the others. A body that is malformed publishes nothing.`,
  query: onlyTenant,
  body: z.array(item).min(1).max(itemsMax),
  status: 200,
  answer: results,
  errors: [],
  example: {
    path: "/publications",
    body: [{ room: "chat:general", data: { text: "one" } }, { room: "chat:random", b64: "AAEC" }, { room: "nowhere:x", data: 1 }],
    answer: {
      results: [
        { position: "7awFeLlP:43", receivers: 3, duplicate: false },
        { position: "Qm1sKd8v:9", receivers: 0, duplicate: false },
        { error: { code: "unknown_namespace", detail: "no namespace of the configuration covers this room name", retryable: false } },
      ],
      failed: 1,
    },
  },
  publications: (items) => items.length,
  serve(node, request) {
    const { body } = request;
    request.refuseKeyHeader();
    const { frameBytesMax, roomNameBytesMax } = node.config;
    inTurns(node, request, body.length, (i, done) => {
      const one = body[i]!;
      const room = roomKey(request.tenant, request.usable(one.room, "publish", roomNameBytesMax));
      publish(node, room, payloadIn(one, request.dataText(i), frameBytesMax), { key: one.key ?? "", exclude: one.exclude }, (answer) => done(room, answer));
    });
  },
});

export const broadcastCall = call({
  name: "broadcast",
  method: "POST",
  path: "/broadcasts",
  scope: "publish",
  title: "Publish into many rooms",
  text: `Publishes the same content into up to ${itemsMax.toLocaleString("en")} rooms. Each room has a result of its own. A key counts in each room.`,
  query: onlyTenant,
  body: z.strictObject({ rooms: z.array(z.string()).min(1).max(itemsMax).describe("Names of the rooms."), data, b64, key }),
  status: 200,
  answer: results,
  errors: ["too_large"],
  example: {
    path: "/broadcasts",
    body: { rooms: ["chat:general", "chat:random"], data: { text: "maintenance at 22:00" } },
    answer: { results: [{ position: "7awFeLlP:44", receivers: 3, duplicate: false }, { position: "Qm1sKd8v:10", receivers: 0, duplicate: false }], failed: 0 },
  },
  publications: ({ rooms }) => rooms.length,
  serve(node, request) {
    const { rooms } = request.body;
    const payload = payloadIn(request.body, request.dataText(), node.config.frameBytesMax);
    const key = request.key(request.body.key);
    inTurns(node, request, rooms.length, (i, done) => {
      const room = roomKey(request.tenant, request.usable(rooms[i], "publish", node.config.roomNameBytesMax));
      publish(node, room, payload, { key }, (answer) => done(room, answer));
    });
  },
});

/** A used key is an answer only for the same content. @param room its key */
function publishOne<Q>(node: ApiNode, request: ApiRequest<Q, { readonly key?: string | undefined }>, room: string, payload: Payload, exclude: string | undefined, tell: (value: Published) => void): void {
  publish(node, room, payload, { key: request.key(request.body.key), exclude }, (answer) => {
    if ("error" in answer) return request.refuse(refusalOf(answer.error));
    const { value } = answer;
    if (!value.duplicate) return tell(value);
    compare(node, room, payload, value, (differs) => (differs === null ? tell(value) : request.refuse(differs)));
  });
}

/** Publishes one after the other, and lets the event loop turn in between. Answers when each has its result. */
function inTurns<Q, B>({ rooms }: ApiNode, request: ApiRequest<Q, B>, count: number, begin: (i: number, done: (room: string, answer: Answer<Published>) => void) => void): void {
  const results: (object | Failed)[] = Array.from({ length: count });
  let waiting = count;
  let failures = 0;
  const settle = (i: number, result: object) => {
    results[i] = result;
    if (--waiting === 0) request.answer(200, { results, failed: failures });
  };
  const fail = (i: number, error: ApiError) => {
    failures++;
    settle(i, failed(error));
  };
  const turn = (from: number) => {
    const to = Math.min(from + perTurn, count);
    for (let i = from; i < to; i++) {
      try {
        begin(i, (room, answer) => {
          if ("error" in answer) return fail(i, new ApiError(answer.error));
          settle(i, { position: cursorOf(answer.value), receivers: rooms.named(room)?.members ?? 0, duplicate: answer.value.duplicate });
        });
      } catch (error) {
        fail(i, error instanceof ApiError ? error : new ApiError("internal"));
      }
    }
    if (to < count) setImmediate(turn, to);
  };
  turn(0);
}

function refusalOf(code: ErrorCode): { code: ErrorCode; text: string } {
  return { code, text: problems[code].text };
}
