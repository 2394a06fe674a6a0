import { useMemo, useSyncExternalStore } from "react";
import type { Client, StateChange, UserStatus } from "../index.ts";
import { useClient } from "./provider.ts";
import { LiveStore, stillStore } from "./store.ts";
import type { Store } from "./store.ts";

const connecting: StateChange = { state: "connecting", retryInMs: null, cause: null };
const noClient = stillStore(connecting);
const getConnecting = () => connecting;

/** The state of the connection: `connecting`, `ready`, `waiting` (with `retryInMs`) or `closed` (with its cause). */
export function useConnectionState(): StateChange {
  const client = useClient();
  const store = useMemo(() => (client === null ? noClient : stateOf(client)), [client]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, getConnecting);
}

function stateOf(client: Client): Store<StateChange> {
  return new LiveStore<StateChange>({ ...connecting, state: client.state }, (set) => {
    set({ ...connecting, state: client.state }); // it may have changed before the first subscription
    return client.on("state", set);
  });
}

/** Status of each watched user that is known, by name. */
export type Statuses = { readonly [user: string]: UserStatus };

const nobody: Statuses = {};
const noStatuses = stillStore(nobody);
const getNobody = () => nobody;

/** Watches whether these users are online, while the component is mounted. The list may be a new array in each rendering. */
export function useStatus(users: readonly string[]): Statuses {
  const client = useClient();
  const key = JSON.stringify([...new Set(users)].sort());
  const store = useMemo(() => (client === null ? noStatuses : statusesOf(client, JSON.parse(key) as string[])), [client, key]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, getNobody);
}

function statusesOf(client: Client, users: readonly string[]): Store<Statuses> {
  return new LiveStore<Statuses>(nobody, (set) => {
    let statuses = nobody;
    let isOver = false;
    const learn = (list: readonly UserStatus[]) => {
      if (!isOver) set((statuses = { ...statuses, ...Object.fromEntries(list.map((status) => [status.user, status])) }));
    };
    const off = client.on("status", (status) => users.includes(status.user) && learn([status]));
    // The answer has the users whom other components watch already: of them comes no event.
    // After a refusal, such as too_many_watched, they stay unknown.
    watched(client).add(users).then(learn, () => {});
    return () => {
      isOver = true;
      off();
      watched(client).remove(users);
    };
  });
}

/** Who is watched by how many components: the client is told of the first and of the last. */
class Watched {
  readonly #client: Client;
  readonly #counts = new Map<string, number>();

  constructor(client: Client) {
    this.#client = client;
  }

  add(users: readonly string[]): Promise<UserStatus[]> {
    for (const user of users) this.#counts.set(user, (this.#counts.get(user) ?? 0) + 1);
    return this.#client.watch(users);
  }

  remove(users: readonly string[]): void {
    const last = users.filter((user) => {
      const count = (this.#counts.get(user) ?? 1) - 1;
      if (count > 0) this.#counts.set(user, count);
      else this.#counts.delete(user);
      return count <= 0;
    });
    if (last.length > 0) this.#client.unwatch(last);
  }
}

const watchedBy = new WeakMap<Client, Watched>();

function watched(client: Client): Watched {
  let own = watchedBy.get(client);
  if (own === undefined) watchedBy.set(client, (own = new Watched(client)));
  return own;
}
