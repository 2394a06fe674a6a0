/**
 * Flush windows. In a room whose namespace has `flushMs`, publications wait up to that long on the reactor and leave
 * together. In formats whose messages hold several frames they form one message; in plain JSON each is a message, and
 * one write sends all. The first waiting publication opens the window. The window closes when its time is over, when it is full, or
 * when the room's members change. So a member gets all of a window or nothing of it.
 *
 * Windows come from a pool of fixed size. When the pool is empty, nothing waits.
 */
import { now } from "../../link/clock.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { Fanout } from "./fanout.ts";
import type { ReactorRoom, Window, WindowQueue } from "../session/session.ts";

/** As for packs (deliveries.ts): below the size from which uWS sends a message at once. */
export const windowBytes = 15 * 1024;
/** Publications in a window of a format whose messages hold one frame, where each is a publish. Half of the publishes of a turn. */
const messagesMax = 15;
/** 15 MB of a reactor. */
const windowsMax = 1024;

export class Windows {
  readonly #fanout: Fanout;
  /** Called after a window has left, with the milliseconds since the hub delivered its first publication. */
  readonly #onFlushed: (ms: number) => void;
  readonly #free: Window[] = [];
  #made = 0;
  readonly #queues = new Map<number, WindowQueue>();

  constructor(fanout: Fanout, onFlushed: (ms: number) => void) {
    this.#fanout = fanout;
    this.#onFlushed = onFlushed;
  }

  /** Publishes that emptying the room's window takes. */
  waiting(room: ReactorRoom, wire: number): number {
    const window = room.windows[wire]!;
    return window === null ? 0 : formats[wire]!.append !== null ? 1 : window.frames;
  }

  /** False: the publication cannot wait; what waits before it has to leave first. */
  add(room: ReactorRoom, wire: number, frame: Uint8Array, seq: number, prev: number, at: number): boolean {
    const window = room.windows[wire] ?? (frame.length > windowBytes ? null : this.#open(room, wire, at));
    const { append } = formats[wire]!;
    if (window === null || window.used + frame.length > windowBytes || (append === null && window.frames === messagesMax)) return false;
    if (append === null || window.frames === 0) {
      window.seqs[window.frames] = seq;
      window.prevs[window.frames] = prev;
    }
    if (append !== null) window.used = append(window.bytes, window.used, frame);
    else {
      window.bytes.set(frame, window.used);
      window.ends[window.frames] = window.used += frame.length;
    }
    window.frames++;
    return true;
  }

  /** Calls `use` with each message that waits for the room's members in this format. */
  each(room: ReactorRoom, wire: number, use: (message: Uint8Array) => void): void {
    const window = room.windows[wire]!;
    if (window === null) return;
    const { bytes, used, frames, ends } = window;
    if (formats[wire]!.append !== null) return use(bytes.subarray(0, used));
    for (let i = 0, start = 0; i < frames; start = ends[i]!, i++) use(bytes.subarray(start, ends[i]));
  }

  /** Publishes what waits for the room's members in this format. */
  flush(room: ReactorRoom, wire: number): void {
    const window = room.windows[wire]!;
    if (window !== null) this.#close(window);
  }

  /**
   * Drops a window whose receivers have all left. A member that joins next has the same topic, but it has a position
   * after the window's last publication.
   */
  discard(room: ReactorRoom, wire: number): void {
    const window = room.windows[wire]!;
    if (window === null) return;
    this.#unlink(window);
    this.#free.push(window);
  }

  flushAll(): void {
    for (const queue of this.#queues.values()) {
      while (queue.first !== null) this.#close(queue.first);
    }
  }

  #open(room: ReactorRoom, wire: number, at: number): Window | null {
    const queue = this.#queueOf(room.flushMs);
    const window = this.#free.pop() ?? this.#make(room, queue);
    if (window === null) return null;
    window.room = room;
    window.wire = wire;
    window.used = window.frames = 0;
    window.since = at;
    window.dueAt = now() + room.flushMs;
    window.queue = queue;
    window.before = queue.last;
    window.after = null;
    if (queue.last === null) queue.first = window;
    else queue.last.after = window;
    queue.last = window;
    room.windows[wire] = window;
    if (queue.timer === null) this.#wake(queue, room.flushMs);
    return window;
  }

  #make(room: ReactorRoom, queue: WindowQueue): Window | null {
    if (this.#made >= windowsMax) return null;
    this.#made++;
    const [ends, seqs, prevs] = [new Uint32Array(messagesMax), new Float64Array(messagesMax), new Float64Array(messagesMax)];
    const bytes = Buffer.allocUnsafeSlow(windowBytes);
    return { room, wire: 0, bytes, used: 0, frames: 0, ends, seqs, prevs, since: 0, dueAt: 0, queue, before: null, after: null };
  }

  #close(window: Window): void {
    const { room, wire, bytes, frames, seqs, prevs, ends, since } = window;
    this.#unlink(window);
    if (formats[wire]!.append !== null) this.#fanout.publish(room, wire, bytes.subarray(0, window.used), seqs[0]!, prevs[0]!, null);
    else {
      for (let i = 0, start = 0; i < frames; start = ends[i]!, i++) {
        this.#fanout.publish(room, wire, bytes.subarray(start, ends[i]), seqs[i]!, prevs[i]!, null);
      }
    }
    this.#free.push(window);
    this.#onFlushed(now() - since);
  }

  #unlink({ room, wire, queue, before, after }: Window): void {
    if (before === null) queue.first = after;
    else before.after = after;
    if (after === null) queue.last = before;
    else after.before = before;
    room.windows[wire] = null;
  }

  #queueOf(flushMs: number): WindowQueue {
    let queue = this.#queues.get(flushMs);
    if (queue === undefined) this.#queues.set(flushMs, (queue = { flushMs, first: null, last: null, timer: null }));
    return queue;
  }

  #wake(queue: WindowQueue, ms: number): void {
    queue.timer = setTimeout(() => this.#closeDue(queue), Math.max(1, ms));
  }

  #closeDue(queue: WindowQueue): void {
    queue.timer = null;
    const time = now();
    while (queue.first !== null && queue.first.dueAt <= time + 0.5) {
      // As many windows as a turn of the loop may publish; the rest follow in the next.
      if (!this.#fanout.mayPublish(0, this.waiting(queue.first.room, queue.first.wire) - 1)) return this.#wake(queue, 1);
      this.#close(queue.first);
    }
    if (queue.first !== null) this.#wake(queue, queue.first.dueAt - time);
  }
}
