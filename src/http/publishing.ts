/** Publishes for a request, and tells a repeated request from another one with the same idempotency key. */
import type { Payload } from "../api/checks.ts";
import { ApiError } from "../api/error.ts";
import { originForAll, type Answer, type Published } from "../broker/broker.ts";
import { applicationKey } from "../protocol/roomkeys.ts";
import type { ApiNode } from "./call.ts";
import { refusal, type Refusal } from "../protocol/problems.ts";

const application = "";

export interface Sending {
  /** Idempotency key; "": none. */
  readonly key: string;
  /** Session that does not get it. */
  readonly exclude?: string | undefined;
}

/** @param room its key. */
export function publish({ hub }: ApiNode, room: string, { payload, format }: Payload, { key, exclude }: Sending, done: (answer: Answer<Published>) => void): void {
  hub.publish(room, { sender: application, payload, format, key: applicationKey(key), origin: exclude === undefined ? "" : originForAll + exclude }, done);
}

/**
 * A key was used before. Null: the first publication is the same, or nothing is known of it any more. Otherwise it
 * differs, and the request is refused.
 */
export function compare({ hub }: ApiNode, room: string, { payload, format }: Payload, { epoch, seq }: Published, done: (refused: Refusal | null) => void): void {
  hub.history(room, { direction: "since", epoch, seq: seq - 1, limit: 1 }, (answer) => {
    const first = "value" in answer ? answer.value.publications.find((one) => one.seq === seq) : undefined;
    if (first === undefined || (first.format === format && Buffer.compare(first.payload, payload) === 0)) return done(null);
    done(refusal("conflict", "the idempotency key was used for another publication; its position is in the room's history"));
  });
}

export interface Failed {
  readonly error: { readonly code: string; readonly detail: string; readonly retryable: boolean };
}

/** One item of a batch that was not published. */
export function failed(error: ApiError): Failed {
  return { error: { code: error.code, detail: error.text, retryable: error.retryable } };
}
