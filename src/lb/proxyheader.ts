/**
 * The header of the PROXY protocol, version 2: the client's address, before the client's first byte.
 *
 *     [12 bytes of signature][0x21: version 2, proxied][0x11: TCP over IPv4, 0x21: over IPv6][u16 bytes that follow]
 *     [source address][destination address][u16 source port][u16 destination port]
 */
import { isIPv4, isIPv6 } from "node:net";

const signature = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const proxied = 0x21;
/** The balancer speaks for itself: the client's address is not known. */
const local = 0x20;
const families = { ipv4: 0x11, ipv6: 0x21, none: 0x00 } as const;

export interface Addresses {
  readonly from: string | undefined;
  readonly fromPort: number | undefined;
  readonly to: string | undefined;
  readonly toPort: number | undefined;
}

export function proxyHeader({ from = "", fromPort = 0, to = "", toPort = 0 }: Addresses): Buffer {
  const [source, destination] = [plain(from), plain(to)];
  if (isIPv4(source) && isIPv4(destination)) return header(proxied, families.ipv4, [...ipv4(source), ...ipv4(destination)], [fromPort, toPort]);
  if (isIPv6(source) && isIPv6(destination)) return header(proxied, families.ipv6, [...ipv6(source), ...ipv6(destination)], [fromPort, toPort]);
  return header(local, families.none, [], []);
}

function header(command: number, family: number, addresses: readonly number[], ports: readonly number[]): Buffer {
  const body = Buffer.from([...addresses, ...ports.flatMap((port) => [port >>> 8, port & 0xff])]);
  return Buffer.concat([signature, Buffer.from([command, family, body.length >>> 8, body.length & 0xff]), body]);
}

/** IPv4 clients of a socket that listens on IPv6. */
export function plain(address: string): string {
  return address.startsWith("::ffff:") && isIPv4(address.slice(7)) ? address.slice(7) : address.replace(/%.*$/, "");
}

function ipv4(address: string): number[] {
  return address.split(".").map(Number);
}

function ipv6(address: string): number[] {
  const [head = "", tail] = address.split("::");
  const words = (part: string) => (part === "" ? [] : part.split(":").flatMap((word) => (word.includes(".") ? pairs(ipv4(word)) : [Number.parseInt(word, 16)])));
  const [before, after] = [words(head), words(tail ?? "")];
  const all = tail === undefined ? before : [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return all.flatMap((word) => [word >>> 8, word & 0xff]);
}

function pairs([a = 0, b = 0, c = 0, d = 0]: readonly number[]): number[] {
  return [(a << 8) | b, (c << 8) | d];
}
