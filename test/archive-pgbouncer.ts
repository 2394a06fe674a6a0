/**
 * The contract of the archive over PgBouncer in transaction mode: npm run test:pgbouncer. A command of its own, since
 * nothing else needs PgBouncer (Debian: apt-get install pgbouncer).
 */
import { spawn } from "node:child_process";
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { createPostgresArchive } from "../src/archive/postgres/postgres.ts";
import { archiveContract } from "../src/contracts/archive.ts";
import { freePort } from "../src/node/ports.ts";
import { postgresUser } from "../tools/demo/postgres.ts";
import { startPostgres } from "./support/postgres.ts";
import { until } from "./support/until.ts";

const postgres = await startPostgres(t);
const [port, folder, user] = [await freePort(), mkdtempSync(join(tmpdir(), "flux-pgbouncer-")), postgresUser()];
writeFileSync(join(folder, "users.txt"), '"flux" ""\n');
writeFileSync(join(folder, "pgbouncer.ini"), `[databases]
* = host=127.0.0.1 port=${postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${folder}/users.txt
pool_mode = transaction
default_pool_size = 3
server_idle_timeout = 1
ignore_startup_parameters = statement_timeout
`);
for (const path of [folder, `${folder}/users.txt`, `${folder}/pgbouncer.ini`]) if (user.uid !== undefined) chownSync(path, user.uid, user.gid!);
const bouncer = spawn("pgbouncer", [join(folder, "pgbouncer.ini")], { ...user, stdio: ["ignore", "ignore", "ignore"], env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
t.teardown(() => {
  bouncer.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});
await until(() => postgres.sql("SELECT 1", [], `postgres://flux@127.0.0.1:${port}/postgres`).then(() => true, () => false), "PgBouncer to answer");

let databases = 0;
archiveContract(t, "PostgreSQL behind PgBouncer", async () => {
  const name = `d${++databases}`;
  await postgres.sql(`CREATE DATABASE ${name}`);
  const url = `postgres://flux@127.0.0.1:${port}/${name}`;
  return { open: () => createPostgresArchive({ url, gateway: "nats test", name: "test" }) };
});
