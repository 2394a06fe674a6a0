export type Unsubscribe = () => void;

type Listeners<Events> = { [Name in keyof Events]?: readonly ((event: Events[Name]) => void)[] };

/** Listeners by event name. `Events` maps each name to what its listeners are given. */
export class Emitter<Events> {
  #listeners: Listeners<Events> = {};

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): Unsubscribe {
    // An entry of its own, so that a function that listens twice can stop once.
    const entry = (event: Events[Name]) => listener(event);
    this.#listeners[name] = [...(this.#listeners[name] ?? []), entry];
    return () => {
      this.#listeners[name] = (this.#listeners[name] ?? []).filter((other) => other !== entry);
    };
  }

  /**
   * A listener that throws does not keep the event from the others, nor break what the client was doing: its error
   * is thrown again on its own, where the platform reports what nobody caught.
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
