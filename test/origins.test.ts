/** Which pages may connect: patterns with a star against origins that are made up, and what is refused at start. */
import fc from "fast-check";
import t from "tap";
import { ConfigError, resolveConfig } from "../src/config/config.ts";
import { origins } from "../src/config/origins.ts";
import { isAmong } from "../src/config/reach.ts";
import { isWelcome } from "../src/reactor/transport/origin.ts";

const elsewhere = "gateway.invalid:8080";
const read = (allowedOrigins: unknown) => resolveConfig({ options: { allowedOrigins } as object }).config;
const welcome = (allowedOrigins: string, origin: string, host = elsewhere) => isWelcome(read(allowedOrigins), origin, host);

t.test("a star stands for one label or more, and for nothing else", async (t) => {
  const allowed = "https://*.example.com, https://*.example.org:8443";
  for (const good of ["https://a.example.com", "https://a.b.c.example.com", "https://xn--bcher-kva.example.com", "https://a_b-1.example.com", "https://a.example.org:8443"]) {
    t.equal(welcome(allowed, good), true, good);
  }
  const others = [
    "https://example.com", "https://evilexample.com", "https://.example.com", "https://a..example.com", "http://a.example.com", "https://a.example.com:8443",
    "https://a.example.org", "https://a.example.com.evil.example", "https://a.example.com/", "https://evil.example/.example.com", "https://evil.example#.example.com",
    "https://evil.example?.example.com", "https://evil.example:1.example.com", "https://u@a.example.com", "https://evil.example\\.example.com", "https://a.example.com:443",
    "https://*.example.com", "https://a%2eexample.com", "null", "https://", "https://a.example.comm", "https://\n.example.com",
  ];
  for (const other of others) t.equal(welcome(allowed, other), false, JSON.stringify(other));
});

t.test("of all origins a pattern admits those of its scheme and port below its host, and no others", async () => {
  const label = fc.stringMatching(/^[a-z][a-z0-9]{0,4}$/);
  const hosts = fc.array(label, { minLength: 1, maxLength: 4 });
  const scheme = fc.constantFrom("http", "https");
  const port = fc.constantFrom("", ":8443", ":80");
  // Origins are made of the pattern's own parts and strange ones, so that many are near it.
  const glue = fc.constantFrom(".", "", "-", ":", "/", "@", "%2e", "#");
  fc.assert(
    fc.property(scheme, fc.array(label, { minLength: 2, maxLength: 3 }), port, scheme, hosts, glue, port, fc.boolean(), (s, base, p, s2, front, between, p2, same) => {
      const written = `${s}://*.${base.join(".")}${p}`;
      const allowed = origins().schema.parse(written);
      const [scheme2, port2] = same ? [s, p] : [s2, p2];
      const origin = `${scheme2}://${front.join(".")}${between}${base.join(".")}${port2}`;
      const isBelow = between === "." && URL.canParse(origin) && new URL(origin).origin === origin
        && origin.startsWith(`${s}://`) && new URL(origin).port === new URL(written.replace("*", "a")).port;
      return isAmong(allowed, origin) === isBelow && !isAmong(allowed, `${s}://${base.join(".")}${p}`);
    }),
    { numRuns: 2_000 },
  );
});

t.test("patterns are brought into the form browsers send, and any other shape is refused at start", async (t) => {
  t.same(read("HTTPS://*.Example.com:443,http://*.B\u00fccher.example:81").allowedOrigins, ["https://*.example.com", "http://*.xn--bcher-kva.example:81"]);
  const wrong = [
    "https://*", "https://*.com", "https://*.", "https://*example.com", "https://a.*.example.com", "https://*.*.example.com", "https://ex*.example.com", "*.example.com",
    "*://*.example.com", "https://*.example.com/", "https://*.example.com:*", "https://*.example.com:99999", "https://*.example..com", "https://*.1.2.3.4", "https://*.[::1]",
    "https://*.u@example.com", "https://**.example.com", "wss://*.example.com", "https://a.example.com*",
  ];
  for (const one of wrong) {
    t.throws(() => read(one), new ConfigError([`allowedOrigins: must be origins such as https://example.com:8443 or https://*.example.com (http or https; "*." in front of a host of two or more labels matches the hosts below it), without a path, separated by commas, or "*" for any, not ${JSON.stringify(one)}`]), one);
  }
});

t.test("a page of the node's own host may connect, by a name and by addresses, IPv6 too; on loopback by loopback's names only", async (t) => {
  for (const host of ["::1", "127.0.0.1", "::ffff:127.0.0.1"]) {
    const own = (name: string) => isWelcome({ allowedOrigins: [], host }, `http://${name}`, name);
    for (const name of ["[::1]:8080", "127.0.0.1:8080", "localhost:8080", "[::1]"]) t.equal(own(name), true, `${name} on ${host}`);
    for (const name of ["rebound.example:8080", "[fd00::1]:8080", "10.0.0.1"]) t.equal(own(name), false, `${name} on ${host}`);
    t.equal(isWelcome({ allowedOrigins: [], host }, "http://[::1]:8080", "[::1]:8081"), false, "another port");
  }
  for (const name of ["[fd00::1]:8080", "ws.example"]) t.equal(isWelcome({ allowedOrigins: [], host: "::" }, `http://${name}`, name), true, name);
  t.equal(isWelcome({ allowedOrigins: [], host: "::" }, "http://[fd00::2]:8080", "[fd00::1]:8080"), false);
});
