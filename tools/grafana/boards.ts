/** All boards, as the files that Grafana provisions. */
import { fleet } from "./fleet.ts";
import { node } from "./node.ts";
import { built, type Board } from "./panels.ts";

export const boards: readonly Board[] = [node, fleet];

/** By file name. */
export function dashboards(): Map<string, string> {
  return new Map(boards.map((board) => [`${board.uid}.json`, `${JSON.stringify(built(board), null, 1)}\n`]));
}

/** Every expression of the boards, and where it is. */
export function expressions(): { readonly at: string; readonly expr: string }[] {
  return boards.flatMap(({ title, rows }) => rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.lines.map(([legend, expr]) => ({ at: `${title}: ${panel.title}: ${legend}`, expr })))));
}
