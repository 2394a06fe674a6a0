import t from "tap";
import { createLogger } from "../src/log.ts";

/** What is logged, as text. */
function recorder(): { text: () => string; write: (line: string) => void } {
  const lines: string[] = [];
  return { text: () => lines.join(""), write: (line) => void lines.push(line) };
}

t.test("JSON logs have a level by name, a time, the node and the message", async (t) => {
  const out = recorder();
  createLogger({ logLevel: "info", logFormat: "json", nodeId: "n1" }, out).warn({ port: 1 }, "here");
  t.match(JSON.parse(out.text()), { level: "warn", time: /^\d{4}-.*Z$/, node: "n1", port: 1, msg: "here" });
});

t.test("pretty logs are one readable line a record", async (t) => {
  const out = recorder();
  createLogger({ logLevel: "info", logFormat: "pretty", nodeId: "n1" }, out).info({ port: 1 }, "here");
  t.match(out.text(), /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: here \{"port":1\}\n$/);
});

for (const logFormat of ["json", "pretty"] as const) {
  t.test(`${logFormat} logs leave out what is below the level, and everything if silent`, async (t) => {
    const out = recorder();
    createLogger({ logLevel: "warn", logFormat, nodeId: "n1" }, out).info("no");
    createLogger({ logLevel: "silent", logFormat, nodeId: "n1" }, out).fatal("no");
    t.equal(out.text(), "");
  });

  t.test(`secrets do not get into ${logFormat} logs`, async (t) => {
    const out = recorder();
    const log = createLogger({ logLevel: "info", logFormat, nodeId: "n1" }, out);
    log.info({ token: "SECRET", authorization: "SECRET" }, "flat");
    log.info({ hello: { token: "SECRET", client: "shown" }, request: { headers: { authorization: "SECRET" }, a: { b: { resumeToken: "SECRET" } } } }, "nested");
    log.info({ url: "/ws?token=SECRET&room=shown" }, "address");
    log.child({ token: "SECRET" }).info("child");
    t.notMatch(out.text(), /SECRET/);
    t.equal(out.text().match(/shown/g)?.length, 2);
    t.equal(out.text().match(/\[hidden\]/g)?.length, 7);
  });
}
