/**
 * A bucket of records as one node knows it: its life, its age, and the highest revision that the node has seen. A bucket
 * that was made again or set back is noticed by them. Then nothing that the node knew is certain any more.
 */
import type { Asking } from "./asking.ts";
import { leaseMs, type RecordStore, type StoredRecord, type Written } from "./leases.ts";
import type { Timers } from "./timers.ts";

/** What the server's own clock may have jumped forward since the bucket was made. */
const jumpMs = 4_000;

export class Bucket {
  readonly #store: RecordStore;
  readonly #asking: Asking;
  readonly #timers: Timers;
  readonly #onChanged: (reason: string) => void;
  /** Called with the last revision of the bucket, and when that was asked. What was known before and is higher, is of another life. */
  onLooked: (lastRevision: number, sentAt: number) => void = () => {};
  #created = "";
  #hasChanged = false;
  #seenAt = 0;
  #ageMs = 0;
  #highest = 0;
  #lookedAt = -Infinity;
  #looking: { readonly since: number; readonly done: Promise<boolean> } | null = null;

  /** @param onChanged is called when it is found to be another bucket, or set back */
  constructor(store: RecordStore, asking: Asking, timers: Timers, onChanged: (reason: string) => void) {
    this.#store = store;
    this.#asking = asking;
    this.#timers = timers;
    this.#onChanged = onChanged;
  }

  /** When the last look was sent that found the bucket as it was. */
  get lookedAt(): number {
    return this.#lookedAt;
  }

  /** A node may believe that it has a lease in a bucket that is gone, for as long as that lasts. */
  get isYoung(): boolean {
    if (this.#created === "") return true;
    const seenMs = this.#timers.now() - this.#seenAt;
    return seenMs < leaseMs && this.#ageMs + seenMs < leaseMs + jumpMs;
  }

  create(key: string, value: string): Promise<Written | undefined> {
    return this.#write(() => this.#store.create(key, value));
  }

  update(key: string, value: string, revision: number): Promise<Written | undefined> {
    return this.#write(() => this.#store.update(key, value, revision));
  }

  /** The same for a hint: where no answer comes, nothing is concluded from that. */
  updateHint(key: string, value: string, revision: number): Promise<Written | undefined> {
    return this.#checked(this.#asking.askForHint(() => this.#store.update(key, value, revision)));
  }

  readHint(key: string): Promise<StoredRecord | null | undefined> {
    return this.#asking.askForHint(() => this.#store.read(key));
  }

  read(key: string): Promise<StoredRecord | null | undefined> {
    return this.#asking.ask(() => this.#store.read(key));
  }

  readAll(): Promise<readonly StoredRecord[] | undefined> {
    return this.#asking.askForHint(() => this.#store.readAll());
  }

  watch(listener: (record: StoredRecord) => void): () => void {
    return this.#store.watch(listener);
  }

  /** A look that begins now finds the bucket as it was before. False: it does not, or it got no answer. */
  look(): Promise<boolean> {
    const now = this.#timers.now();
    // Those who ask at the same moment get the same look.
    if (this.#looking?.since !== now) this.#looking = { since: now, done: this.#look(now) };
    return this.#looking.done;
  }

  async #look(sentAt: number): Promise<boolean> {
    const [before, life] = [this.#highest, this.#created];
    const info = await this.#asking.ask(() => this.#store.info());
    if (info === undefined || this.#created !== life) return false;
    if (life === "") {
      // A bucket that was set back is as young as the node's knowledge of that, whatever the server says.
      this.#begin(info.created, this.#hasChanged ? 0 : info.ageMs, info.lastRevision);
    } else if (info.created !== life) {
      return this.#changed("is another one", info.created, info.lastRevision);
    } else if (info.lastRevision < before) {
      return this.#changed(`was set back from revision ${before} to ${info.lastRevision}`, info.created, info.lastRevision);
    }
    this.#lookedAt = Math.max(this.#lookedAt, sentAt);
    this.#highest = Math.max(this.#highest, info.lastRevision);
    this.onLooked(info.lastRevision, sentAt);
    return true;
  }

  #write(write: () => Promise<Written>): Promise<Written | undefined> {
    return this.#checked(this.#asking.ask(write));
  }

  async #checked(asked: Promise<Written | undefined>): Promise<Written | undefined> {
    const [before, life] = [this.#highest, this.#created];
    const answer = await asked;
    if (answer?.kind !== "written" || this.#created !== life) return this.#created === life ? answer : undefined;
    if (answer.revision > before) {
      this.#highest = Math.max(this.#highest, answer.revision);
      return answer;
    }
    this.#changed(`was set back from revision ${before} to ${answer.revision}`, "", 0);
    return undefined;
  }

  #changed(how: string, created: string, highest: number): false {
    this.#hasChanged = true;
    this.#begin(created, 0, highest);
    this.#lookedAt = -Infinity;
    this.#onChanged(how);
    return false;
  }

  #begin(created: string, ageMs: number, highest: number): void {
    this.#created = created;
    this.#ageMs = ageMs;
    this.#seenAt = this.#timers.now();
    this.#highest = highest;
  }
}
