/** What is wrong with the data directory, in a sentence that says what to do; the gateway names the option before it. */
export class DataDirError extends Error {
  override readonly name = "DataDirError";
}

/** What the operating system said, as a sentence for whoever starts the node. */
export function explained(error: unknown): DataDirError {
  if (error instanceof DataDirError) return error;
  const { code, message, path } = error as NodeJS.ErrnoException;
  const where = path === undefined ? "it" : path;
  switch (code) {
    case "EEXIST":
    case "ENOTDIR":
      return new DataDirError("it, or a part of its path, is a file; name a directory, or a path that is free");
    case "ENOENT":
      return new DataDirError(`${where} cannot be made: the file system there, such as /proc, has no place for it; choose another directory`);
    case "EACCES":
    case "EPERM":
      return new DataDirError(`this user may not read and write ${where}; change who owns it, or choose another directory`);
    case "EROFS":
      return new DataDirError("its file system is read-only; choose another directory");
    case "ENOSPC":
    case "EDQUOT":
      return new DataDirError("its file system is full; make room there, or choose another directory");
    default:
      return new DataDirError(`it cannot be used: ${message}`, { cause: error });
  }
}
