/**
 * Large messages, and why they leave in fragments. uWS formats a message that its cork buffer cannot take inside the
 * socket's queue, and never gives that memory back before the socket closes, however much of the message left at once: a
 * message of 60 kB to 400 members that kept up took 24 MB for good. A fragment that fits the cork buffer does not touch
 * the queue as long as the kernel takes it. WebSocket clients put fragments together by themselves (RFC 6455, 5.4).
 */
import { queued, taken, type Socket } from "./socket.ts";

/** From this size on uWS does not note what is published for the end of the turn but sends it; its cork buffer is as large. */
export const largeBytes = 16 * 1024;
/** What fits the cork buffer with a header of four bytes. */
const fragmentBytes = largeBytes - 8;

/**
 * Sends a message of any size to one socket.
 *
 * uWS drops what comes when the queue is over its bound, and in the middle of a message that would end the stream. So a
 * message that reaches the bound is sent whole. So is a compressed one, which has no parts.
 * @param queueBytesMax where uWS begins to drop
 * @returns as `Socket.send`
 */
export function sendAny(socket: Socket, bytes: Uint8Array, isBinary: boolean, compress: boolean, queueBytesMax: number): number {
  const { length } = bytes;
  const isWhole = length < largeBytes || compress || socket.sendFirstFragment === undefined || socket.getBufferedAmount() + length > queueBytesMax;
  if (isWhole) return socket.send(bytes, isBinary, compress);
  socket.sendFirstFragment!(bytes.subarray(0, fragmentBytes), isBinary);
  let at = fragmentBytes;
  for (; length - at > fragmentBytes; at += fragmentBytes) socket.sendFragment!(bytes.subarray(at, at + fragmentBytes));
  socket.sendLastFragment!(bytes.subarray(at));
  return socket.getBufferedAmount() > 0 ? queued : taken;
}
