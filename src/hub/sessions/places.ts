/**
 * A session's places in rooms. Few are an array that is searched: most sessions are in few rooms, and a map for each
 * would cost more than the places. Many are a map by name, since each join would take longer than the one before.
 */
import type { PlaceInRoom } from "../../link/sessions.ts";

export type Places = PlaceInRoom[] | Map<string, PlaceInRoom>;

const listedMax = 16;
/** Shared by all sessions in no room. */
export const noPlaces: PlaceInRoom[] = [];

export function listed(places: Places): readonly PlaceInRoom[] {
  return Array.isArray(places) ? places : [...places.values()];
}

export function placeIn(places: Places, room: string): PlaceInRoom | undefined {
  return Array.isArray(places) ? places.find(({ name }) => name === room) : places.get(room);
}

/** Adds this place, or replaces an earlier one in the same room. It may change its argument, so use only the result. */
export function withPlace(places: Places, place: PlaceInRoom): Places {
  if (!Array.isArray(places)) return places.set(place.name, place);
  const at = places.findIndex(({ name }) => name === place.name);
  if (at >= 0) places[at] = place;
  else if (places.length >= listedMax) return byName([...places, place]);
  // V8 allocates room for seventeen elements on the first push to an empty array.
  else if (places.length === 0) return [place];
  else places.push(place);
  return places;
}

export function withoutPlace(places: Places, room: string): Places {
  if (Array.isArray(places)) return places.length > listedMax ? byName(places.filter(({ name }) => name !== room)) : places.filter(({ name }) => name !== room);
  places.delete(room);
  // Half of the bound, so that a session near it does not convert all its places with each join and leave.
  return places.size <= listedMax / 2 ? [...places.values()] : places;
}

/** The places of a session that was resumed. */
export function placesOf(places: readonly PlaceInRoom[]): Places {
  return places.length === 0 ? noPlaces : places.length > listedMax ? byName(places) : [...places];
}

function byName(places: readonly PlaceInRoom[]): Places {
  return new Map(places.map((place) => [place.name, place]));
}

/** Makes places. One object serves all sessions that enter a room while nothing is published. */
export class LastPlace {
  #last: PlaceInRoom = { name: "", epoch: "", seq: 0 };

  of({ name, epoch }: { readonly name: string; readonly epoch: string }, seq: number): PlaceInRoom {
    const { name: lastName, epoch: lastEpoch, seq: lastSeq } = this.#last;
    if (name !== lastName || epoch !== lastEpoch || seq !== lastSeq) this.#last = { name, epoch, seq };
    return this.#last;
  }
}
