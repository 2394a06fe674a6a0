/**
 * Starts something that may be waited for in vain. Rejects with the signal's reason when it is aborted, before anything
 * is started or while it is waited for.
 * @param onAbort takes back what has been started, where that is possible
 */
export async function abortable<T>(signal: AbortSignal | undefined, start: () => Promise<T>, onAbort: () => void = () => {}): Promise<T> {
  if (signal === undefined) return start();
  if (signal.aborted) throw signal.reason;
  return new Promise<T>((resolve, reject) => {
    const abort = () => {
      onAbort();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    void start().then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
