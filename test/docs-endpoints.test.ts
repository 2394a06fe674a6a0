/** The tables of endpoints that documentation is made from are what a node serves. */
import t from "tap";
import { adminEndpoints } from "../src/admin/endpoints.ts";
import { publicEndpoints } from "../src/reactor/transport/endpoints.ts";
import { startNode } from "./support/node.ts";
import { secret } from "./support/tokens.ts";

const node = await startNode(t, { demo: true, reactors: 1, apiPublic: true, authSecret: secret, allowAnonymous: true });
const admin = `http://127.0.0.1:${node.adminPort}`;

t.test("the admin port serves the paths of the table, and no other", async (t) => {
  const { paths } = (await (await fetch(`${admin}/`)).json()) as { paths: string[] };
  t.strictSame(new Set(paths), new Set(adminEndpoints.map(({ path }) => path)));
});

t.test("each path of the admin port takes the methods of the table", async (t) => {
  for (const path of new Set(adminEndpoints.map((endpoint) => endpoint.path))) {
    const methods = adminEndpoints.filter((endpoint) => endpoint.path === path).map(({ method }) => method);
    const response = await fetch(admin + path, { method: "DELETE" });
    t.equal(response.status, 405, path);
    t.equal(response.headers.get("allow"), [...(methods.includes("GET") ? ["GET", "HEAD"] : []), ...(methods.includes("POST") ? ["POST"] : [])].join(", "), path);
  }
});

t.test("the port for clients serves the paths of the table", async (t) => {
  for (const { method, path } of publicEndpoints) {
    const { status } = await fetch(`http://127.0.0.1:${node.port}${path}`, { method });
    const without: Readonly<Record<string, number>> = { "/ws": 426, "/api/v1/docs": 401 };
    t.equal(status, without[path] ?? 200, path);
  }
});
