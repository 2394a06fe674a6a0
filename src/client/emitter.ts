export type Unsubscribe = () => void;

type Listeners<Events> = { [Name in keyof Events]?: readonly ((event: Events[Name]) => void)[] };

/** Listeners by event name. `Events` maps each name to the type of its event. */
export class Emitter<Events> {
  #listeners: Listeners<Events> = {};

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): Unsubscribe {
    // One entry per call, so that a function added twice can be removed once.
    const entry = (event: Events[Name]) => listener(event);
    this.#listeners[name] = [...(this.#listeners[name] ?? []), entry];
    return () => {
      this.#listeners[name] = (this.#listeners[name] ?? []).filter((other) => other !== entry);
    };
  }

  /**
   * Calls every listener. If one throws, the others still run and the client goes on. The error is thrown again on its
   * own, where the platform reports uncaught errors.
   */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of this.#listeners[name] ?? []) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
