/** Large messages are sent in fragments only where uWS drops none of them. */
import t from "tap";
import { sendAny } from "../src/reactor/transport/fragments.ts";
import type { Socket } from "../src/reactor/transport/socket.ts";

const bound = 1024 * 1024;
const message = new Uint8Array(64 * 1024);

/** How a socket with so many bytes queued gets the message. */
function sent(queued: number, topics: string[]): string[] {
  const calls: string[] = [];
  const note = (name: string) => () => (calls.push(name), 0);
  sendAny({
    getBufferedAmount: () => queued, getTopics: () => topics, send: note("whole"), sendFirstFragment: note("first"), sendFragment: note("next"), sendLastFragment: note("last"),
  } as unknown as Socket, message, true, false, bound);
  return calls;
}

t.test("where the queue may reach its bound, a message is sent whole", (t) => {
  t.strictSame(sent(0, ["a"]), ["first", "next", "next", "next", "last"]);
  t.strictSame(sent(bound - message.length, []), ["first", "next", "next", "next", "last"], "it fits exactly");
  t.strictSame(sent(bound - message.length + 1, []), ["whole"]);
  t.strictSame(sent(bound - message.length, ["a"]), ["whole"], "uWS writes what it has noted for the socket first, up to 31 messages of 16 KiB");
  t.strictSame(sent(bound - message.length - 31 * 16 * 1024, ["a"]), ["first", "next", "next", "next", "last"]);
  t.end();
});
