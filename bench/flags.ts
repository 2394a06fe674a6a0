/** Parsers for values of flags. */
import { InvalidArgumentError, Option } from "commander";

export function positive(value: string): number {
  const number = Number(value);
  if (!(number > 0)) throw new InvalidArgumentError("Must be a number above 0.");
  return number;
}

/** A flag that takes some of `known` or `more`, separated by commas. Default: all of `known`. */
export function listOption(flag: string, text: string, known: readonly string[], more: readonly string[] = []): Option {
  return new Option(flag, `${text}, separated by commas`).default([...known], known.join(",")).argParser((value: string) => {
    const chosen = value.split(",");
    const unknown = chosen.find((one) => !known.includes(one) && !more.includes(one));
    if (unknown !== undefined) throw new InvalidArgumentError(`Unknown value ${unknown}; choose from ${known.join(", ")}.`);
    return chosen;
  });
}
