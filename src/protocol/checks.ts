/**
 * Checks values of unknown form, as JSON.parse gives them, and names the first field that is wrong. Reactors check JSON
 * frames and tokens with it. They do without zod: to load it and to build these schemas took a fifth of the CPU of a
 * reactor's start.
 */

/** Returns the value as it is used. Only `check` calls it: for a value of another form, it throws what is wrong. */
export type Read<T> = (value: unknown) => T;

type Shape = Readonly<Record<string, Read<unknown>>>;
type Fields<S extends Shape> = { -readonly [K in keyof S]: ReturnType<S[K]> };

/** Thrown, but no Error: clients can cause it as fast as they send, and a stack would cost most of it. */
class Wrong {
  readonly text: string;
  /** Innermost field first. */
  readonly path: string[] = [];

  constructor(text: string) {
    this.text = text;
  }
}

/** @param whole what to call the value where no field of it is wrong, but all of it */
export function check<T>(read: Read<T>, value: unknown, whole: string): { readonly value: T } | { readonly problem: string } {
  try {
    return { value: read(value) };
  } catch (thrown) {
    if (!(thrown instanceof Wrong)) throw thrown;
    return { problem: `${thrown.path.reverse().join(".") || whole}: ${thrown.text}` };
  }
}

/** For checks of one's own, while `check` runs. */
export function wrong(text: string): never {
  throw new Wrong(text);
}

// ------------------------------------------------------------------------------- single values

export const string: Read<string> = (value) => (typeof value === "string" ? value : wrong("expected a string"));

/** Text that UTF-8 can carry. */
export const text: Read<string> = (value) => (string(value).isWellFormed() ? (value as string) : wrong("expected well-formed Unicode"));

export const boolean: Read<boolean> = (value) => (typeof value === "boolean" ? value : wrong("expected true or false"));

export const unknown: Read<unknown> = (value) => value;

export function number(min = -Number.MAX_VALUE, max = Number.MAX_VALUE): Read<number> {
  return (value) => {
    if (typeof value !== "number" || Number.isNaN(value)) return wrong("expected a number");
    return value >= min && value <= max ? value : wrong(`expected a number from ${min} to ${max}`);
  };
}

export function whole(min: number, max: number): Read<number> {
  return (value) => (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max ? (value as number) : wrong(`expected a whole number from ${min} to ${max}`));
}

export function oneOf<T extends string>(names: readonly T[]): Read<T> {
  return (value) => (names.includes(value as T) ? (value as T) : wrong(`expected one of ${names.join(", ")}`));
}

export function optional<T>(read: Read<T>): Read<T | undefined> {
  return (value) => (value === undefined ? undefined : read(value));
}

export function nullable<T>(read: Read<T>): Read<T | null> {
  return (value) => (value === null ? null : read(value));
}

// ------------------------------------------------------------------------------- values of values

/** Other fields are ignored. A field that is not there is read as undefined, and left out where that is its value. */
export function object<S extends Shape>(shape: S): Read<Fields<S>> {
  const fields = Object.entries(shape);
  return (value) => {
    const given = record(value);
    const found: Record<string, unknown> = {};
    for (const [key, read] of fields) {
      const field = at(key, read, Object.hasOwn(given, key) ? given[key] : undefined);
      if (field !== undefined) found[key] = field;
    }
    return found as Fields<S>;
  };
}

/** Of a field's name in a problem: a client may send any. */
const namedCharsMax = 64;

/** Other fields are refused by name, so that a typing error is reported and not ignored. */
export function strictObject<S extends Shape>(shape: S): Read<Fields<S>> {
  const read = object(shape);
  return (value) => {
    const found = read(value);
    for (const key of Object.keys(value as object)) if (!Object.hasOwn(shape, key)) wrong(`there is no field ${JSON.stringify(key.slice(0, namedCharsMax))}`);
    return found;
  };
}

export function array<T>(read: Read<T>, max = Infinity): Read<T[]> {
  return (value) => {
    if (!Array.isArray(value)) return wrong("expected an array");
    if (value.length > max) return wrong(`expected at most ${max}`);
    return value.map((item: unknown, i) => at(`${i}`, read, item));
  };
}

/** An array with a reader for each place. Optional ones at the end may be missing. */
export function tuple<R extends readonly Read<unknown>[]>(...reads: R): Read<{ -readonly [I in keyof R]: ReturnType<R[I]> }> {
  return (value) => {
    if (!Array.isArray(value) || value.length > reads.length) return wrong(`expected an array of ${reads.length}`);
    return reads.map((read, i) => at(`${i}`, read, value[i])) as { -readonly [I in keyof R]: ReturnType<R[I]> };
  };
}

/** The entries of an object whose keys are data. */
export function entries<T>(key: Read<string>, read: Read<T>, max: number): Read<[string, T][]> {
  return (value) => {
    const all = Object.entries(record(value));
    if (all.length > max) return wrong(`expected at most ${max}`);
    return all.map(([name, field]) => [at(name, key, name), at(name, read, field)]);
  };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : wrong("expected an object");
}

function at<T>(key: string, read: Read<T>, value: unknown): T {
  try {
    return read(value);
  } catch (thrown) {
    if (thrown instanceof Wrong) thrown.path.push(key);
    throw thrown;
  }
}
