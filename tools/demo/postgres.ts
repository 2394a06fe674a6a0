/** A PostgreSQL on this machine: where its programs are, as which user they run, and a new database. */
import { spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The folder of the programs: on the PATH, or where Debian has them. Null: PostgreSQL is not installed. */
export function postgresPrograms(): string | null {
  const debian = "/usr/lib/postgresql";
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => `${debian}/${version}/bin`), ...(process.env.PATH ?? "").split(delimiter)];
  return folders.find((bin) => ["initdb", "postgres"].every((program) => existsSync(join(bin, program)))) ?? null;
}

/** PostgreSQL refuses to run as root. */
export function postgresUser(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const [uid, gid] = ["-u", "-g"].map((flag) => Number(spawnSync("id", [flag, "postgres"]).stdout.toString()));
  return uid! > 0 ? { uid: uid!, gid: gid! } : { uid: 65_534, gid: 65_534 };
}

/** Makes a database of the user flux. @throws where initdb fails */
export function makeDatabase(bin: string, folder: string, more: readonly string[] = []): void {
  const user = postgresUser();
  mkdirSync(folder, { recursive: true });
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid!);
  const made = spawnSync(join(bin, "initdb"), ["-D", join(folder, "data"), "-U", "flux", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync", ...more], { ...user, encoding: "utf8" });
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr || made.error?.message}`);
}
