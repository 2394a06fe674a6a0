/** The options of a node that were given to it. Secrets are hidden here, before anything is sent. */
import { options, showValue, type Config } from "../config/config.ts";
import type { rows } from "../config/options.ts";
import type { Source } from "../config/sources.ts";
import { hidden } from "../config/values.ts";
import { settingsMax, type Said } from "./answers.ts";

const charsMax = 2_000;
/** A URL may carry a key of its own. */
const inQuery = /([?&][^=&\s"]{1,64}=)[^&\s"]+/g;

export function changedOptions(config: Config, sources: ReadonlyMap<string, Source>): Said<"settings"> {
  const plain = options.flatMap(({ key, group, text, defaultText }) => {
    const source = sources.get(key);
    if (key === "namespaces" || source === undefined || source.rank === "default") return [];
    const value = showValue(config, key as keyof typeof rows);
    return [{ key, group, value: shown(value), standard: defaultText, from: fromOf(source), text }];
  });
  const { namespaces } = config;
  const rooms = [...sources].flatMap(([path, source]) => {
    const [top, name = "", option = ""] = path.split(".");
    if (top !== "namespaces" || source.rank === "default") return [];
    const value = (namespaces[name] as Readonly<Record<string, unknown>> | undefined)?.[option];
    return value === undefined ? [] : [{ key: path, group: "Rooms", value: shown(String(value)), standard: "", from: fromOf(source), text: `Option of the rooms of the namespace ${name}.` }];
  });
  return [...plain, ...rooms].slice(0, settingsMax);
}

function shown(value: string): string {
  return value.replace(inQuery, `$1${hidden}`).slice(0, charsMax);
}

function fromOf({ rank, name }: Source): string {
  return rank === "file" ? `file ${name}` : rank === "option" ? "program" : rank;
}
