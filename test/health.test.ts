/** What a container asks to know whether its node lives. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import t from "tap";
import { folder, makePair } from "./support/certificates.ts";
import { startNode } from "./support/node.ts";
import { open } from "./support/session.ts";

const script = fileURLToPath(new URL("../dist/cli/health.js", import.meta.url));

/** What the check exits with. Not spawnSync: the node that it asks runs in this process. */
function check(env: Record<string, string>): Promise<number | null> {
  const child = spawn(process.execPath, [script], { env: { PATH: process.env.PATH ?? "", ...env }, stdio: "inherit" });
  return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
}

for (const tls of [false, true]) {
  t.test(`a node that lives is healthy, and one that is gone is not${tls ? ": the same with TLS" : ""}`, async (t) => {
    const { cert, key } = tls ? makePair(folder(t), "node") : { cert: "", key: "" };
    const node = await startNode(t, { reactors: 1, drainMs: 3_600_000, tlsCert: cert, tlsKey: key });
    const env = { FLUX_PORT: String(node.port), FLUX_TLS_CERT: cert };
    t.equal(await check(env), 0);
    t.equal(await check({ ...env, FLUX_TLS_CERT: tls ? "" : "node.crt" }), 1, "it is asked in the way it serves");
    if (!tls) {
      await open(node);
      void node.drain();
      t.equal(await check(env), 0, "in the middle of a drain");
    }
    await node.close();
    t.equal(await check(env), 1);
  });
}
