/** Addresses and credentials of requests to the HTTP API on the port for clients, on a clock that the test holds. */
import t from "tap";
import { Callers } from "../src/reactor/api/callers.ts";

const start = () => {
  const time = { now: 0 };
  const callers = new Callers(() => time.now);
  const ask = (address: string, credential: string, status: number) => {
    const refused = callers.begin(address, credential);
    if (refused === null) callers.ended(address, credential, status);
    return refused;
  };
  return { callers, time, ask };
};

t.test("twenty refused requests of an address at once, then one a second", async (t) => {
  const { ask, time } = start();
  for (let i = 0; i < 20; i++) t.equal(ask("10.0.0.1", `k${i}`, 401), null);
  t.equal(ask("10.0.0.1", "k", 401), "rate_limited");
  t.equal(ask("10.0.0.2", "k", 401), null, "another address");
  time.now = 1_000;
  t.equal(ask("10.0.0.1", "k", 401), null);
  t.equal(ask("10.0.0.1", "k", 401), "rate_limited");
  time.now = 3_600_000;
  for (let i = 0; i < 20; i++) t.equal(ask("10.0.0.1", "k", 404), null, "wrong paths count as well");
  t.equal(ask("10.0.0.1", "k", 401), "rate_limited");
});

t.test("a credential that was accepted passes, until it is refused", async (t) => {
  const { ask } = start();
  t.equal(ask("10.0.0.1", "good", 201), null);
  for (let i = 0; i < 30; i++) ask("10.0.0.1", "bad", 401);
  t.equal(ask("10.0.0.1", "bad", 401), "rate_limited");
  t.equal(ask("10.0.0.1", "good", 404), null, "its own errors do not count");
  t.equal(ask("10.0.0.1", "good", 401), null, "revoked");
  t.equal(ask("10.0.0.1", "good", 201), "rate_limited");
  t.equal(ask("10.0.0.1", "long".repeat(1_000), 201), "rate_limited");
});

t.test("an address has 512 requests without an answer", async (t) => {
  const { callers, ask } = start();
  for (let i = 0; i < 512; i++) t.equal(callers.begin("10.0.0.1", "k"), null);
  t.equal(callers.begin("10.0.0.1", "k"), "overloaded");
  t.equal(callers.begin("10.0.0.2", "k"), null);
  callers.ended("10.0.0.1", "k", 0);
  t.equal(callers.begin("10.0.0.1", "k"), null);
  for (let i = 0; i < 512; i++) callers.ended("10.0.0.1", "k", 201);
  callers.ended("10.0.0.2", "k", 0);
  t.equal(callers.size, 0, "nothing is kept of addresses that did nothing wrong");
  t.equal(ask("10.0.0.1", "k", 201), null);
});

t.test("a network of IPv6 is one address, an IPv4 address in IPv6 is its own", async (t) => {
  const { ask } = start();
  const host = (last: number) => `2001:0db8:0000:0001:0000:0000:0000:${String(last).padStart(4, "0")}`;
  for (let i = 0; i < 20; i++) ask(host(i), "k", 401);
  t.equal(ask(host(99), "k", 401), "rate_limited");
  t.equal(ask("2001:0db8:0000:0002:0000:0000:0000:0001", "k", 401), null);
  const mapped = (last: number) => `0000:0000:0000:0000:0000:ffff:0a00:000${last}`;
  for (let i = 0; i < 20; i++) ask(mapped(1), "k", 401);
  t.equal(ask(mapped(1), "k", 401), "rate_limited");
  t.equal(ask(mapped(2), "k", 401), null);
});

t.test("10,000 addresses are remembered, those refused last", async (t) => {
  const { callers, ask } = start();
  for (let i = 0; i < 20; i++) ask("first", "k", 401);
  for (let i = 0; i < 10_100; i++) ask(`10.${i}`, "k", 401);
  t.ok(callers.size <= 10_000, String(callers.size));
  t.equal(ask("first", "k", 401), null, "the first is forgotten");
});
