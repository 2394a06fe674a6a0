/** Who is let in at the port for clients: addresses and credentials on a clock that the test holds, and places for streams. */
import t from "tap";
import { openCaller, type ApiCaller } from "../src/auth/apikeys.ts";
import { grantOf } from "../src/auth/claims.ts";
import { publicStreamBounds, Streams } from "../src/http/streams.ts";
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

t.test("streams: sixteen of a user in each tenant, 128 of a key, and those with tokens leave room for keys", async (t) => {
  const streams = new Streams(publicStreamBounds);
  const key = (name: string): ApiCaller => ({ ...openCaller, kind: "key", name });
  const user = (sub: string, tenant = ""): ApiCaller => {
    const read = grantOf({ sub, tenant });
    return { ...openCaller, kind: "token", name: `token:${sub}`, tenant, grant: "grant" in read ? read.grant : null };
  };
  const take = (caller: ApiCaller, count: number) => Array.from({ length: count }, () => streams.take(caller));
  const first = take(user("ann"), 16);
  t.throws(() => streams.take(user("ann")), { code: "overloaded", text: "this user has 16 streams already" });
  take(user("ann", "acme"), 16);
  first[0]!.free();
  first[0]!.free();
  t.equal(streams.count, 31);
  streams.take(user("ann"));
  for (let i = 0; i < 22; i++) take(user(`u${i}`), 16);
  t.throws(() => streams.take(user("last")), { code: "overloaded", text: "384 streams with tokens are open already" });
  take(key("shop"), 128);
  t.throws(() => streams.take(key("shop")), { code: "overloaded" });
  t.throws(() => streams.take(key("other")), { code: "overloaded", text: "512 streams are open already" });
});
