/** What the backend is sent: a question as JSON. */
import type { AskRecord } from "../link/hooks.ts";
import { Format } from "../protocol/messages.ts";

/** @param node that asks */
export function bodyOf(node: string, { hook, tenant, user, isAnonymous, session, client, device, token, room, key, format, payload }: AskRecord): string {
  const head = { hook, node, ...(tenant !== "" && { tenant }), user, ...(isAnonymous && { anonymous: true }), ...(session !== "" && { session }) };
  switch (hook) {
    case "connect": return JSON.stringify({ ...head, client, ...(device !== "" && { device }), ...(token !== "" && { token }) });
    case "refresh": return JSON.stringify(head);
    case "join": return JSON.stringify({ ...head, room });
    case "publish": {
      const text = JSON.stringify({ ...head, room, ...(key !== "" && { key }), ...(format === Format.BINARY && { b64: base64(payload) }) });
      // Valid JSON, checked by the reactor. Copied as it is: parsing would change large numbers.
      return format === Format.BINARY ? text : `${text.slice(0, -1)},"data":${Buffer.from(payload).toString()}}`;
    }
  }
}

function base64(payload: Uint8Array): string {
  return Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString("base64");
}
