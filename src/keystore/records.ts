/** Keys as text: one JSON object each, in a line of a file or in a field of Redis. */
import * as z from "zod";
import { KeyStoreProblem, keyNamePattern, keysMax, patternCharsMax, perSecondMax, scopeNames, type FoundKey, type KeyRecord } from "./keystore.ts";

export const recordBytesMax = 16_384;
/** Records checked before other work of the thread gets a turn. */
const perTurn = 50;

const keyName = z.string().regex(keyNamePattern);
const time = z.int().min(0);
const printable = (bytesMax: number) => z.string().max(bytesMax).regex(/^[^\u0000-\u001f\u007f]*$/);
const perSecond = z.number().positive().max(perSecondMax).nullable();

const patternsMax = 50;
const secret = z.strictObject({ id: z.string().regex(/^[0-9A-Za-z]{10}$/), sha256: z.string().regex(/^[\w-]{43}$/), createdAt: time, expiresAt: time });

/** An unknown field is refused: it may be a restriction that this version does not know. */
const record = z.strictObject({
  name: keyName,
  tenant: printable(128).nullable(),
  scopes: z.array(z.enum(scopeNames)).max(scopeNames.length),
  rooms: z.array(printable(patternCharsMax)).max(patternsMax).nullable(),
  requestsPerSecond: perSecond,
  publicationsPerSecond: perSecond,
  createdAt: time,
  expiresAt: time,
  secrets: z.array(secret).min(1).max(2),
});

/** @throws KeyStoreProblem */
export function readRecord(text: string): KeyRecord {
  if (text.length > recordBytesMax) throw new KeyStoreProblem(`is longer than ${recordBytesMax} characters`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message quotes the text.
    throw new KeyStoreProblem("is not valid JSON");
  }
  const { data, error } = record.safeParse(value);
  if (data !== undefined) return data;
  const issue = error.issues[0];
  throw new KeyStoreProblem(issue?.code === "unrecognized_keys" ? "has a field that this version does not know" : `has an invalid ${issue?.path.join(".") || "value"}`);
}

/** @throws KeyStoreProblem for a record that no store would read. */
export function writeRecord(key: KeyRecord): string {
  const text = JSON.stringify(key);
  readRecord(text);
  return text;
}

/** The text of one record, and the name it should have, or its place in the file. */
export interface RecordText {
  readonly where: string;
  readonly text: string;
}

/** The keys that a node knows. Records whose text has not changed are not read again. */
export class KnownKeys {
  #byText = new Map<string, KeyRecord>();
  #bySecret = new Map<string, FoundKey>();

  get size(): number {
    return this.#byText.size;
  }

  has(text: string): boolean {
    return this.#byText.has(text);
  }

  find(secretId: string): FoundKey | undefined {
    return this.#bySecret.get(secretId);
  }

  named(name: string): RecordText | undefined {
    for (const [text, key] of this.#byText) if (key.name === name) return { where: name, text };
    return undefined;
  }

  /**
   * Knows these keys from now on, and no others. Takes several turns of the event loop where there are many.
   * @throws KeyStoreProblem, with the place of the record, and then knows what it knew before.
   */
  async replace(texts: readonly RecordText[]): Promise<void> {
    if (texts.length > keysMax) throw new KeyStoreProblem(`has ${texts.length} keys, and at most ${keysMax} are allowed`);
    const byText = new Map<string, KeyRecord>();
    const bySecret = new Map<string, FoundKey>();
    const names = new Set<string>();
    for (const [i, { where, text }] of texts.entries()) {
      if (i % perTurn === perTurn - 1) await new Promise((resolve) => setImmediate(resolve));
      const key = this.#byText.get(text) ?? placed(where, () => readRecord(text));
      if (names.has(key.name)) throw new KeyStoreProblem(`${where} has the name of another key`);
      names.add(key.name);
      byText.set(text, key);
      for (const secret of key.secrets) {
        if (bySecret.has(secret.id)) throw new KeyStoreProblem(`${where} has a secret of another key`);
        bySecret.set(secret.id, { key, secret });
      }
    }
    this.#byText = byText;
    this.#bySecret = bySecret;
  }
}

function placed<T>(where: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof KeyStoreProblem) throw new KeyStoreProblem(`${where} ${error.message}`);
    throw error;
  }
}

export function byName(keys: KeyRecord[]): KeyRecord[] {
  return keys.sort((one, other) => (one.name < other.name ? -1 : 1));
}
