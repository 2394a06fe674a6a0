/**
 * Inboxes have other streams where they have queues. What is left in those of the other placement is not delivered: it
 * would get other positions, and devices would see again what they have acknowledged. So the operator is told.
 */
import type { Streams } from "../streams/streams.ts";
import type { Fields } from "../wire/answers.ts";
import { queueMark, streamName } from "../wire/names.ts";

export interface Left {
  readonly messages: number;
  /** The first of the streams. */
  readonly stream: string;
}

/** Null: there is nothing. @param hasQueues inboxes have queues now */
export async function leftElsewhere(streams: Streams, prefix: string, namespace: string, hasQueues: boolean): Promise<Left | null> {
  const other = hasQueues ? namespace : `${namespace}${queueMark}`;
  let messages = 0;
  for (let i = 0; ; i++) {
    const found = await streams.request(`STREAM.INFO.${streamName(prefix, other, i)}`, {}, readMessages).catch(() => null);
    if (found === null) return messages === 0 ? null : { messages, stream: streamName(prefix, other, 0) };
    messages += found;
  }
}

function readMessages({ state }: Fields): number | null {
  const messages = (state as { readonly messages?: unknown } | undefined)?.messages;
  return Number.isSafeInteger(messages) ? (messages as number) : null;
}
