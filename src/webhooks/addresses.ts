/**
 * Keeps webhooks out of private networks: an endpoint's name may resolve to an address that only this machine can
 * reach, and may resolve to another one each time. So the address is checked at each connect: the one that was looked
 * up, one written into the URL, and once more that of the socket.
 */
import { lookup as lookUp, type LookupAddress } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { buildConnector } from "undici";

const closed = new BlockList();
for (const [net, bits] of [
  ["0.0.0.0", 8], ["10.0.0.0", 8], ["100.64.0.0", 10], ["127.0.0.0", 8], ["169.254.0.0", 16], ["172.16.0.0", 12], ["192.0.0.0", 24], ["192.0.2.0", 24],
  ["192.88.99.0", 24], ["192.168.0.0", 16], ["198.18.0.0", 15], ["198.51.100.0", 24], ["203.0.113.0", 24], ["224.0.0.0", 4], ["240.0.0.0", 4],
] as const) closed.addSubnet(net, bits, "ipv4");
/** Within 2000::/3: protocols that carry IPv4 addresses, and documentation. */
for (const [net, bits] of [["2001::", 23], ["2001:db8::", 32], ["2002::", 16], ["3fff::", 20]] as const) closed.addSubnet(net, bits, "ipv6");
const open6 = new BlockList();
open6.addSubnet("2000::", 3, "ipv6");

/**
 * Whether the address is one of the public internet. Of IPv6 only global unicast is: not loopback, link-local or
 * unique local addresses, nor those that hold an IPv4 address.
 */
export function isPublic(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !closed.check(address, "ipv4");
  return family === 6 && !address.includes("%") && open6.check(address, "ipv6") && !closed.check(address, "ipv6");
}

export class PrivateAddress extends Error {
  override readonly name = "PrivateAddress";
  readonly code = "PRIVATE_ADDRESS";

  constructor(host: string, address: string) {
    super(`${host} is ${host === address ? "" : `${address}, `}in a private network; webhooksAllowPrivate allows it`);
  }
}

type LookUp = (host: string, options: { readonly all: true; readonly family?: number }, done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void) => void;

export interface PublicConnectorOptions {
  readonly timeoutMs: number;
  /** Replaced in tests. */
  readonly lookup?: LookUp;
  readonly isAllowed?: (address: string) => boolean;
}

/** Opens connections to public addresses only. */
export function publicConnector({ timeoutMs, lookup = lookUp as LookUp, isAllowed = isPublic }: PublicConnectorOptions): buildConnector.connector {
  const checked: LookupFunction = (host, options, done) => {
    lookup(host, { ...options, all: true, ...(typeof options.family === "number" && { family: options.family }) } as { all: true }, (error, addresses) => {
      if (error !== null) return done(error, []);
      const allowed = addresses.filter(({ address }) => isAllowed(address));
      const [first] = allowed;
      if (first === undefined) return done(new PrivateAddress(host, addresses[0]?.address ?? "nowhere"), []);
      if (options.all === true) done(null, allowed);
      else done(null, first.address, first.family);
    });
  };
  const connect = buildConnector({ timeout: timeoutMs, lookup: checked } as buildConnector.BuildOptions);
  return (options, done) => {
    const host = options.hostname.replace(/^\[(.*)\]$/, "$1");
    if (isIP(host) !== 0 && !isAllowed(host)) return done(new PrivateAddress(host, host), null);
    connect(options, (...[error, socket]) => {
      if (error !== null) return done(error, null);
      const address = socket.remoteAddress ?? "";
      if (isAllowed(address)) return done(null, socket);
      socket.on("error", () => undefined).destroy();
      done(new PrivateAddress(host, address), null);
    });
  };
}
