/** Files that are complete, or as they were, after a crash or a power loss. */
import type { Stats } from "node:fs";
import { chmod, chown, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { randomId } from "../platform/ids.ts";

/** @param before the file that is replaced: its mode and owner stay. Null: the new one is for its owner only. */
export async function writeWhole(path: string, text: string, before: Pick<Stats, "mode" | "uid" | "gid"> | null = null): Promise<void> {
  // Nobody knows the name before, and can have put a link there.
  const beside = `${path}.${randomId(9)}.new`;
  try {
    const file = await open(beside, "wx", 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    if (before !== null) {
      await chmod(beside, before.mode & 0o777);
      // Only root may give a file away, and only then it is necessary.
      await chown(beside, before.uid, before.gid).catch(() => undefined);
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/**
 * A new file survives a power loss only once its folder is synced as well. A folder that may be written but not read
 * cannot be synced: what was written is there all the same.
 */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EACCES") return null;
    throw error;
  });
  try {
    await handle?.sync();
  } finally {
    await handle?.close();
  }
}
