import { createContext, createElement, useContext, useEffect, useState } from "react";
import type { FunctionComponent, ReactNode } from "react";
import type { Client } from "../index.ts";

export type FluxProviderProps = {
  /** Makes the client, in the browser only. Called once; the client is closed when the provider is gone. */
  connect?: () => Client;
  /** A client of yours, instead of `connect`. The provider does not close it. */
  client?: Client | null;
  /** Components that use the hooks. */
  children?: ReactNode;
};

const Context = createContext<Client | null>(null);

/** Gives its children a client. Give it `connect` or `client`. */
export const FluxProvider: FunctionComponent<FluxProviderProps> = ({ connect, client = null, children }) => {
  const [own] = useState(() => new OwnClient());
  const [made, setMade] = useState<Client | null>(null);
  // An effect: servers do not run it, so they open no socket.
  useEffect(() => {
    if (connect === undefined) return undefined;
    setMade(own.take(connect));
    return () => own.give();
    // A new `connect` in each rendering is the usual case, and means the same client.
  }, [own, connect === undefined]);
  return createElement(Context.Provider, { value: client ?? made }, children);
};

/** The client; null while the page is rendered on a server, and until the provider has made it. */
export function useClient(): Client | null {
  return useContext(Context);
}

/** StrictMode runs an effect, its end, and the effect again: the client stays the same. */
class OwnClient {
  #client: Client | null = null;
  #users = 0;

  take(connect: () => Client): Client {
    this.#users++;
    return (this.#client ??= connect());
  }

  give(): void {
    this.#users--;
    setTimeout(() => {
      if (this.#users > 0) return;
      void this.#client?.close();
      this.#client = null;
    }, 0);
  }
}
