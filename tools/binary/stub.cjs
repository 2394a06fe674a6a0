/**
 * The main script of the single executable file. It carries the program as an archive, unpacks it once into a private folder, checks every file
 * there at each start, and runs it from there: uWebSockets.js's binary can be loaded from a file only, and threads start from files too.
 *
 * The folder belongs to this user alone (0700). A file that differs from the archive ends the start: it would run with this user's rights.
 */
"use strict";
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const { createRequire } = require("node:module");
const os = require("node:os");
const path = require("node:path");
const sea = require("node:sea");
const { setFlagsFromString } = require("node:v8");
const { gunzipSync } = require("node:zlib");

// As the first line of dist/cli/main.js says.
setFlagsFromString("--max-semi-space-size=2");

const { id, files } = JSON.parse(sea.getAsset("manifest", "utf8"));
const user = process.getuid();

try {
  const folder = ready();
  createRequire(path.join(folder, "package.json"))("./boot.cjs");
} catch (error) {
  process.stderr.write(`error: ${error.message}\n`);
  process.exit(1);
}

/** @returns the folder with the program, whole and unchanged @throws where there is none, and says why */
function ready() {
  const refused = [];
  for (const base of bases()) {
    const folder = path.join(base, id);
    try {
      if (!isThere(folder)) unpack(base, folder);
    } catch (error) {
      // Read-only, full, another user's: the next place may be better.
      refused.push(`${base}: ${error.message}`);
      continue;
    }
    check(folder);
    return folder;
  }
  throw new Error(`the program cannot be unpacked: it needs a folder that this user can write to, with ${Math.ceil(sizeOf(files) / 2 ** 20)} MiB. Set XDG_CACHE_HOME to one. Tried ${refused.join("; ")}`);
}

function bases() {
  const cache = process.env.XDG_CACHE_HOME || (process.env.HOME ? path.join(process.env.HOME, ".cache") : "");
  return [...(cache === "" ? [] : [path.join(cache, "flux-gateway")]), ...[os.tmpdir(), "/dev/shm"].map((folder) => path.join(folder, `flux-gateway-${user}`))];
}

function sizeOf(list) {
  return list.reduce((sum, { size }) => sum + size, 0);
}

/** @throws where something is there that this user may not trust */
function isThere(folder) {
  const found = fs.lstatSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return false;
  mine(path.dirname(folder));
  mine(folder);
  return true;
}

/** @throws where others may write to the folder, or replace it */
function mine(folder) {
  const { uid, mode } = fs.lstatSync(folder);
  if ((mode & fs.constants.S_IFMT) !== fs.constants.S_IFDIR) throw new Error(`${folder} is no folder`);
  if (uid !== user) throw new Error(`${folder} belongs to user ${uid}`);
  if ((mode & 0o077) !== 0) throw new Error(`${folder} is open to others: chmod 700 it`);
}

/** Written beside its place and moved there whole: another start may do the same. */
function unpack(base, folder) {
  fs.mkdirSync(base, { recursive: true, mode: 0o700 });
  mine(base);
  const beside = fs.mkdtempSync(`${folder}-`);
  try {
    const bytes = gunzipSync(Buffer.from(sea.getRawAsset("archive")));
    for (const { name, at, size } of files) {
      const file = path.join(beside, name);
      fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
      fs.writeFileSync(file, bytes.subarray(at, at + size), { mode: 0o600, flag: "wx" });
    }
    try {
      fs.renameSync(beside, folder);
    } catch (error) {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      fs.rmSync(beside, { recursive: true, force: true });
    }
  } catch (error) {
    fs.rmSync(beside, { recursive: true, force: true });
    throw error;
  }
}

/** @throws where a file is not what was unpacked */
function check(folder) {
  for (const { name, hash } of files) {
    const file = path.join(folder, name);
    let found = "it is missing";
    try {
      found = createHash("sha256").update(fs.readFileSync(file)).digest("hex") === hash ? "" : "its content differs";
    } catch (error) {
      if (error.code !== "ENOENT") found = error.message;
    }
    if (found !== "") throw new Error(`${file} was changed after it was unpacked (${found}), and is not run. Find out what writes there, delete ${folder}, and start again`);
  }
}
