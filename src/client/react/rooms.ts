import { useMemo, useSyncExternalStore } from "react";
import { fluxError } from "../flux-error.ts";
import type { Client, FluxError, Gap, Member, Publication, Published, PublishOptions, Room } from "../index.ts";
import { useClient } from "./provider.ts";
import { LiveStore, stillStore } from "./store.ts";

export type RoomOptions = {
  /** Number of publications to begin with: the newest ones. The first component in the room decides. Default: 50. */
  history?: number;
  /** Publications that are kept, the newest ones. The first component in the room decides. Default: 200. */
  keep?: number;
};

export type RoomView = {
  /** The newest publications, oldest first. */
  readonly publications: readonly Publication[];
  /** `joining`: there is no connection, or the client joins the room, or fetches what it missed. `live`: publications arrive as they are published. `left`: the node refused the room, or ended it. */
  readonly status: "joining" | "live" | "left";
  /** The last publications that were lost to this client; null: none were. */
  readonly gap: Gap | null;
  /** Why the room is left, or what failed last. */
  readonly error: FluxError | null;
};

export type RoomHandle = RoomView & {
  /** Publishes into the room, as `room.publish()` of the SDK. The same function in every rendering. */
  readonly publish: (data: unknown, options?: PublishOptions) => Promise<Published>;
};

export type PresenceView = {
  /** Users in the room. */
  readonly users: number;
  /** Sessions in the room. */
  readonly sessions: number;
  /** The members; in large rooms, some of them. */
  readonly members: readonly Member[];
  /** The list has been read. */
  readonly isLoaded: boolean;
  /** Why there is no list. */
  readonly error: FluxError | null;
};

const defaults = { history: 50, keep: 200 };
const noRoom: RoomView = { publications: [], status: "joining", gap: null, error: null };
const noMembers: PresenceView = { users: 0, sessions: 0, members: [], isLoaded: false, error: null };
const noRooms = stillStore(noRoom);
const nobody = stillStore(noMembers);

/**
 * Joins a room while the component is mounted, and renders it again when something comes. Components with the same room
 * share it. With null as name it does nothing.
 */
export function useRoom(name: string | null, options: RoomOptions = {}): RoomHandle {
  const client = useClient();
  const { history, keep } = { ...defaults, ...options };
  const shared = client !== null && name !== null ? roomOf(client, name) : null;
  const store = shared === null ? noRooms : shared.view({ history, keep });
  const view = useSyncExternalStore(store.subscribe, store.getSnapshot, getNoRoom);
  const publish = useMemo(
    () => (data: unknown, options?: PublishOptions) => shared?.publish(data, options) ?? Promise.reject(fluxError("left", "there is no client or no room yet")),
    [shared],
  );
  return useMemo(() => ({ ...view, publish }), [view, publish]);
}

/** Follows who is in a room while the component is mounted. It joins the room, like useRoom. With null as name it does nothing. */
export function usePresence(name: string | null): PresenceView {
  const client = useClient();
  const store = client !== null && name !== null ? roomOf(client, name).members : nobody;
  return useSyncExternalStore(store.subscribe, store.getSnapshot, getNobody);
}

const getNoRoom = () => noRoom;
const getNobody = () => noMembers;

const rooms = new WeakMap<Client, Map<string, SharedRoom>>();

function roomOf(client: Client, name: string): SharedRoom {
  let own = rooms.get(client);
  if (own === undefined) rooms.set(client, (own = new Map()));
  let room = own.get(name);
  if (room === undefined) own.set(name, (room = new SharedRoom(client, name)));
  return room;
}

/** One room of a client, joined while at least one component uses it. */
class SharedRoom {
  readonly members: LiveStore<PresenceView>;
  readonly #client: Client;
  readonly #name: string;
  #view: LiveStore<RoomView> | null = null;
  #options: Required<RoomOptions> = defaults;
  /** For publications. The list of members has a room of its own, so that each begins complete, whichever comes first. */
  #room: Room | null = null;

  constructor(client: Client, name: string) {
    this.#client = client;
    this.#name = name;
    this.members = new LiveStore(noMembers, (set) => this.#follow(set));
  }

  view(options: Required<RoomOptions>): LiveStore<RoomView> {
    if (this.#view === null) {
      this.#options = options;
      this.#view = new LiveStore<RoomView>(noRoom, (set) => this.#watch(set));
    }
    return this.#view;
  }

  publish(data: unknown, options?: PublishOptions): Promise<Published> {
    if (this.#room !== null) return this.#room.publish(data, options);
    return this.#client.publish(this.#name, data, options);
  }

  #watch(set: (view: RoomView) => void): () => void {
    const room = this.#client.join(this.#name, { history: this.#options.history });
    this.#room = room;
    let view = noRoom;
    const change = (part: Partial<RoomView>) => set((view = { ...view, ...part }));
    change({});
    // One array for all that comes in a turn.
    let arrived: Publication[] = [];
    const take = () => {
      const publications = [...view.publications, ...arrived].slice(-this.#options.keep);
      arrived = [];
      change({ publications });
    };
    const ends = [
      room.on("publication", (publication) => {
        if (arrived.push(publication) === 1) queueMicrotask(take);
      }),
      room.on("joined", () => change({ status: "joining", error: null })),
      room.on("live", () => change({ status: "live" })),
      room.on("gap", (gap) => change({ gap })),
      room.on("error", (error) => change({ error })),
      room.on("left", (error) => change({ status: "left", error })),
      this.#client.on("state", ({ state }) => {
        if (state !== "ready" && view.status === "live") change({ status: "joining" });
      }),
    ];
    return () => {
      for (const end of ends) end();
      this.#view = null; // the next component begins with history again
      this.#room = null;
      void room.leave();
    };
  }

  #follow(set: (view: PresenceView) => void): () => void {
    const room = this.#client.join(this.#name);
    const members = room.members();
    const ends = [
      members.on("changed", () => set({ users: members.users, sessions: members.sessions, members: members.list, isLoaded: true, error: null })),
      members.on("error", (error) => set({ ...noMembers, error })),
    ];
    return () => {
      for (const end of ends) end();
      set(noMembers);
      void room.leave(); // and stops the list
    };
  }
}
