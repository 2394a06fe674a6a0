/**
 * Stands in for `async-hook-domain` in the tap that build.mjs joins: an error that nobody catches fails the file, and its
 * stack says where it was thrown. The package finds the test that it belongs to, and for that tracks every promise of the
 * nodes in a test, which took up to a fifth of the CPU of a file.
 */
const live = [];

export class Domain {
  /** @param onerror gets the error, and `uncaughtException` or `unhandledRejection` */
  constructor(onerror) {
    this.onerror = onerror;
    if (live.push(this) === 1) process.on("uncaughtExceptionMonitor", handle);
  }

  destroy() {
    const at = live.indexOf(this);
    if (at < 0) return;
    live.splice(at, 1);
    if (live.length === 0) process.off("uncaughtExceptionMonitor", handle);
  }
}

function handle(error, type) {
  // A test that listens for such errors itself gets them.
  if (process.listenerCount("uncaughtException") > 0 || process.hasUncaughtExceptionCaptureCallback()) return;
  // The oldest is that of the file.
  live[0].onerror(error, type);
  process.setUncaughtExceptionCaptureCallback(() => process.setUncaughtExceptionCaptureCallback(null));
}
