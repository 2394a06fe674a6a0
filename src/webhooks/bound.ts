/** The bound of the events of all webhooks together: what is refused at it, counted and said. */
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { WebhookQueue } from "../metrics/webhooks.ts";

export interface QueueBoundOptions {
  readonly eventsMax: number;
  readonly bytesMax: number;
  /** What waits now. Cheap: it is asked before each event. */
  waiting(): { readonly events: number; readonly bytes: number };
  readonly log: Logger;
}

export class QueueBound {
  readonly #options: QueueBoundOptions;
  readonly #sparse = new Sparse();
  readonly #refused = { events: 0, bytes: 0 };

  constructor(options: QueueBoundOptions) {
    this.#options = options;
  }

  get isFull(): boolean {
    return this.#reached() !== null;
  }

  /** Whether there is room for one event more. False: it is refused, and this has counted it. */
  admits(): boolean {
    const reached = this.#reached();
    if (reached === null) return true;
    this.#refused[reached]++;
    const unsaid = this.#sparse.due(reached);
    const { events, bytes } = this.#options.waiting();
    if (unsaid !== null) this.#options.log.error({ code: "overloaded", bound: reached, events, bytes, ...(unsaid > 0 && { unsaid }) }, `webhooks: too many events wait (${reached === "events" ? "webhookEventsMax" : "webhookEventsBytesMax"}): new ones are refused and never told; mend the endpoint that does not take them, or remove it: see flux-gateway hooks failed`);
    return false;
  }

  usage(): WebhookQueue {
    const { waiting, eventsMax, bytesMax } = this.#options;
    const { events, bytes } = waiting();
    return { events, eventsMax, bytes: Math.round(bytes), bytesMax, refused: { ...this.#refused } };
  }

  #reached(): "events" | "bytes" | null {
    const { waiting, eventsMax, bytesMax } = this.#options;
    const { events, bytes } = waiting();
    return events >= eventsMax ? "events" : bytes >= bytesMax ? "bytes" : null;
  }
}
