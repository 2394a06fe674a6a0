/** How an operator sees why clients are refused: closes by code, tokens, and a log line for each reason that says what to do. */
import t from "tap";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { fate, open } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const secret = "s".repeat(32);

t.test("a refused client is a close with its code, and one line with a hint for each reason, however many they are", async (t) => {
  const node = await startNodeProcess(["--reactors", "1", "--auth-secret", secret, "--log-level", "debug"]);
  t.teardown(() => node.kill());
  for (let i = 0; i < 5; i++) t.equal(await fate(node, { version: 1, token: "not-a-jwt-of-any-kind", client: "app 1.2" }), 3500);
  const page = await open(node, { hello: null, headers: { Origin: "https://evil.example" } });
  t.match(await page.closed(), { code: 3505 });
  const good = await token({ sub: "ann" }, secret);
  t.ok((await open(node, { hello: { token: good, client: "app 1.3" } })).ready);
  const closes = await node.metrics();
  t.match(closes, /^flux_closes_total\{reactor="0",code="3500"\} 5$/m);
  t.match(closes, /^flux_closes_total\{reactor="0",code="3505"\} 1$/m);
  t.equal(await node.metric("flux_tokens_refused_total"), 5, "text that is no token is counted, and used not to be");
  const said = (words: string) => node.lastWords.filter((line) => line.includes(words));
  await until(() => said('"msg":"hello"').length === 1 && said("forbidden_origin").length === 1, "the log to say so");
  t.equal(said("refused, invalid_token").length, 1);
  t.match(JSON.parse(said("refused, invalid_token")[0]!), { level: "info", reason: "invalid_token", code: 3500, client: "app 1.2", msg: /token: is not a JWT; flux-gateway token explain/ });
  t.match(JSON.parse(said('"msg":"hello"')[0]!), { level: "debug", user: "ann", client: "app 1.3", resumed: false });
  t.notMatch(node.lastWords.join("\n"), new RegExp(`${good}|not-a-jwt`), "no token is in the log");
});
