/**
 * A session's places in rooms. Few are an array that is looked through: most sessions are in few rooms, and a map for each would
 * cost more than the places. Many are found by name, as each room that a session enters would take longer than the one before.
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

/** With this place, in the place of an earlier one in the same room. What it is given may change, and is to be used no more. */
export function withPlace(places: Places, place: PlaceInRoom): Places {
  if (!Array.isArray(places)) return places.set(place.name, place);
  const at = places.findIndex(({ name }) => name === place.name);
  if (at >= 0) places[at] = place;
  else if (places.length >= listedMax) return byName([...places, place]);
  // V8 makes room for seventeen where something is pushed into an empty array.
  else if (places.length === 0) return [place];
  else places.push(place);
  return places;
}

export function withoutPlace(places: Places, room: string): Places {
  if (Array.isArray(places)) return places.length > listedMax ? byName(places.filter(({ name }) => name !== room)) : places.filter(({ name }) => name !== room);
  places.delete(room);
  // Well below the bound, so that one that comes and goes does not move all of them each time.
  return places.size <= listedMax / 2 ? [...places.values()] : places;
}

/** Those of a session that was brought back. */
export function placesOf(places: readonly PlaceInRoom[]): Places {
  return places.length === 0 ? noPlaces : places.length > listedMax ? byName(places) : [...places];
}

function byName(places: readonly PlaceInRoom[]): Places {
  return new Map(places.map((place) => [place.name, place]));
}
