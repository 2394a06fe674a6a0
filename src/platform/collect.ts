/** Collects the garbage of this thread's heap at once: V8 lets it lie until the heap has grown, and what it has freed by then is no use to anybody. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let gc: (() => void) | null = null;

/** Some tens of milliseconds for a heap of 30 MB: only for a node that is short of memory. */
export function collectGarbage(): void {
  if (gc === null) {
    // The flag counts for contexts that are made after it.
    setFlagsFromString("--expose-gc");
    gc = runInNewContext("gc") as () => void;
  }
  gc();
}
