/**
 * Sends large messages in fragments. uWS formats a message that exceeds its cork buffer inside the socket's queue. It
 * frees that memory only when the socket closes, however soon the message left. A message of 60 kB to 400 members that
 * kept up took 24 MB for good. A fragment that fits the cork buffer does not touch the queue while the kernel takes it.
 * WebSocket clients join the fragments themselves (RFC 6455, 5.4).
 */
import { queued, taken, type Socket } from "./socket.ts";

/**
 * From this size on uWS sends a publish at once instead of at the end of the turn. Its cork buffer has the same size.
 */
export const largeBytes = 16 * 1024;
/** Fits the cork buffer with a header of four bytes. */
const fragmentBytes = largeBytes - 8;
/** uWS notes so many publishes for a socket at most, each smaller than a large message. It writes them before what is sent. */
const notedBytesMax = 31 * largeBytes;

/**
 * Sends a message of any size to one socket.
 *
 * uWS drops bytes while the queue exceeds its bound. In the middle of a message that would break the stream. So a
 * message that could reach the bound, behind what uWS may have noted for the socket, is sent whole. A compressed message
 * is sent whole too, because it has no parts.
 * @param queueBytesMax where uWS begins to drop
 * @returns as `Socket.send`
 */
export function sendAny(socket: Socket, bytes: Uint8Array, isBinary: boolean, compress: boolean, queueBytesMax: number): number {
  const { length } = bytes;
  const isWhole = length < largeBytes || compress || socket.sendFirstFragment === undefined || queuedMost(socket) + length > queueBytesMax;
  if (isWhole) return socket.send(bytes, isBinary, compress);
  socket.sendFirstFragment!(bytes.subarray(0, fragmentBytes), isBinary);
  let at = fragmentBytes;
  for (; length - at > fragmentBytes; at += fragmentBytes) socket.sendFragment!(bytes.subarray(at, at + fragmentBytes));
  socket.sendLastFragment!(bytes.subarray(at));
  return socket.getBufferedAmount() > 0 ? queued : taken;
}

/** Bytes that the socket's queue may have once uWS has written what it noted. */
function queuedMost(socket: Socket): number {
  return socket.getBufferedAmount() + (socket.getTopics().length > 0 ? notedBytesMax : 0);
}
