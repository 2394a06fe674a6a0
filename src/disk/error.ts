/** A problem with the data directory, and what to do about it. The gateway puts the option's name in front. */
export class DataDirError extends Error {
  override readonly name = "DataDirError";
}

/** Turns an error of the operating system into a sentence for the operator. */
export function explained(error: unknown): DataDirError {
  if (error instanceof DataDirError) return error;
  const { code, message, path } = error as NodeJS.ErrnoException;
  const where = path === undefined ? "it" : path;
  switch (code) {
    case "EEXIST":
    case "ENOTDIR":
      return new DataDirError("it, or a part of its path, is a file; choose a directory or an unused path");
    case "ENOENT":
      return new DataDirError(`${where} cannot be created: its file system, such as /proc, does not allow it; choose another directory`);
    case "EACCES":
    case "EPERM":
      return new DataDirError(`this user may not read and write ${where}; change its owner, or choose another directory`);
    case "EROFS":
      return new DataDirError("its file system is read-only; choose another directory");
    case "ENOSPC":
    case "EDQUOT":
      return new DataDirError("its file system is full; free some space, or choose another directory");
    default:
      return new DataDirError(`it cannot be used: ${message}`, { cause: error });
  }
}
