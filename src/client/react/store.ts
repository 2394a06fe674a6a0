/** A value that components follow, in the form that React's useSyncExternalStore takes. */

export type Store<Value> = {
  subscribe(listener: () => void): () => void;
  getSnapshot(): Value;
};

/**
 * A store that works only while somebody follows it. React in StrictMode subscribes, unsubscribes and subscribes again
 * at once, and a component that is replaced unsubscribes just before its successor subscribes. So the end waits for the
 * turn to be over.
 */
export class LiveStore<Value> implements Store<Value> {
  readonly #begin: (set: (value: Value) => void) => () => void;
  readonly #listeners = new Set<() => void>();
  #value: Value;
  #end: (() => void) | null = null;
  #isTold = true;

  /** @param begin called with the first subscriber; returns what to do after the last one */
  constructor(value: Value, begin: (set: (value: Value) => void) => () => void) {
    this.#value = value;
    this.#begin = begin;
  }

  subscribe = (listener: () => void): (() => void) => {
    // One entry for each call: React may pass the same function twice.
    const entry = () => listener();
    this.#listeners.add(entry);
    this.#end ??= this.#begin((value) => this.#set(value));
    return () => {
      this.#listeners.delete(entry);
      setTimeout(() => this.#endIfAlone(), 0);
    };
  };

  getSnapshot = (): Value => this.#value;

  /** Many changes in one turn, such as a page of history, are one rendering. */
  #set(value: Value): void {
    this.#value = value;
    if (!this.#isTold) return;
    this.#isTold = false;
    queueMicrotask(() => {
      this.#isTold = true;
      for (const listener of [...this.#listeners]) listener();
    });
  }

  #endIfAlone(): void {
    if (this.#listeners.size > 0) return;
    this.#end?.();
    this.#end = null;
  }
}

/** For what is not there: no client yet, or a server that renders. */
export function stillStore<Value>(value: Value): Store<Value> {
  return { subscribe: () => () => {}, getSnapshot: () => value };
}
