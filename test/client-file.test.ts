/** The client that a node serves to pages. */
import { createHash } from "node:crypto";
import { request } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import t from "tap";
import { startNode } from "./support/node.ts";

const node = await startNode(t, { reactors: 1, demo: true, allowedOrigins: ["https://shop.example"] });

type Answer = { status: number | undefined; headers: IncomingHttpHeaders; body: Buffer };

/** As it comes: fetch would decompress. */
function get(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port: node.port, path, method, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }));
    });
    asked.on("error", reject).end();
  });
}

const about = JSON.parse((await get("/flux-client.json")).body.toString()) as { version: string; path: string; integrity: string };

t.test("each encoding that a browser reads has the same content and a tag of its own", async (t) => {
  const plain = await get("/flux-client.js");
  t.equal(plain.headers["content-encoding"], undefined);
  t.match(plain.body.toString(), /export ?\{/);
  const [br, gzip] = [await get("/flux-client.js", { "Accept-Encoding": "gzip, deflate, br, zstd" }), await get("/flux-client.js", { "Accept-Encoding": "gzip, br;q=0" })];
  t.equal(br.headers["content-encoding"], "br");
  t.ok(brotliDecompressSync(br.body).equals(plain.body));
  t.equal(gzip.headers["content-encoding"], "gzip");
  t.ok(gunzipSync(gzip.body).equals(plain.body));
  t.ok(br.body.length < gzip.body.length && gzip.body.length < 28_000, `${br.body.length}, ${gzip.body.length} and ${plain.body.length} bytes`);
  const tags = [plain, br, gzip].map(({ headers }) => headers.etag);
  t.equal(new Set(tags).size, 3);
  const head = await get("/flux-client.js", { "Accept-Encoding": "br" }, "HEAD");
  t.match(head, { status: 200, body: { length: 0 }, headers: { etag: tags[1], "content-length": String(br.body.length) } });
  for (const known of [tags[1]!, `W/${tags[1]}`, `"other", ${tags[1]}`, "*"]) {
    const again = await get("/flux-client.js", { "Accept-Encoding": "br", "If-None-Match": known });
    t.match(again, { status: 304, body: { length: 0 }, headers: { etag: tags[1], vary: "Accept-Encoding, Origin" } }, known);
  }
  t.equal((await get("/flux-client.js", { "If-None-Match": tags[1]! })).status, 200, "the tag of another encoding");
});

t.test("a path with version and hash is kept for a year, the other one is asked for each time", async (t) => {
  t.match(about.path, new RegExp(`^/flux-client-${about.version.replaceAll(".", "\\.")}-[0-9a-f]{8}\\.js$`));
  const [versioned, latest] = [await get(about.path), await get("/flux-client.js")];
  t.ok(versioned.body.equals(latest.body));
  t.equal(versioned.headers["cache-control"], "public, max-age=31536000, immutable");
  t.equal(latest.headers["cache-control"], "public, max-age=0, must-revalidate");
  t.equal((await get("/flux-client-0.1.0-00000000.js")).status, 404);
});

t.test("the hash for pages is that of the file", async (t) => {
  const { body } = await get(about.path);
  t.equal(about.integrity, `sha384-${createHash("sha384").update(body).digest("base64")}`);
});

t.test("pages of allowed origins may load it, and no others", async (t) => {
  const allowed = async (origin: string) => (await get(about.path, { Origin: origin, Host: `127.0.0.1:${node.port}` })).headers["access-control-allow-origin"];
  t.equal(await allowed("https://shop.example"), "https://shop.example");
  t.equal(await allowed(`http://127.0.0.1:${node.port}`), `http://127.0.0.1:${node.port}`);
  t.equal(await allowed("https://evil.example"), undefined);
  t.match(await get(about.path, {}, "DELETE"), { status: 405, headers: { allow: "GET, HEAD" } });
});
