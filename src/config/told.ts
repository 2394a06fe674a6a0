/** Which facts the endpoints of webhooks are told. Reactors use this too, so it knows nothing of how options are read (webhooks.ts). */
import { factKinds, lettersOf, type FactKind } from "../facts/facts.ts";

interface Told {
  readonly events: readonly string[];
}
type Endpoints = { readonly [name: string]: Told & { readonly namespaces: readonly string[] } };

/** The kinds that a name in `events` stands for. */
export function kindsNamed(event: string): FactKind[] {
  return factKinds.filter((kind) => kind === event || (event.endsWith(".*") && kind.startsWith(event.slice(0, -1))));
}

export function kindsOf({ events }: Told): FactKind[] {
  return events.length === 0 ? factKinds : [...new Set(events.flatMap(kindsNamed))];
}

/** Letters of the facts that some endpoint is told of rooms in this namespace. "" for none. */
export function lettersOfRooms(webhooks: Endpoints, namespace: string): string {
  const all = Object.values(webhooks).filter(({ namespaces }) => namespaces.length === 0 || namespaces.includes(namespace));
  return lettersOf(all.flatMap(kindsOf).filter((kind) => kind.startsWith("room.") || kind.startsWith("member.")));
}

export function lettersOfUsers(webhooks: Endpoints): string {
  return lettersOf(Object.values(webhooks).flatMap(kindsOf).filter((kind) => kind.startsWith("user.") || kind.startsWith("session.")));
}
