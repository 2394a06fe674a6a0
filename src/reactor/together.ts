/**
 * `ready` and the `joined` of the joins that came with hello leave in one write. They come from the hub in one batch, and
 * a write of its own costs a frame more than everything else that is done for it.
 */
import type { Session } from "./session/session.ts";

/** uWS's cork buffer has 16 KiB. What exceeds it would go through the socket's queue. */
const bytesMax = 8 * 1024;

export class Together {
  readonly #write: (session: Session, frame: Uint8Array) => void;
  /** Whose frames wait. At most one session has any, and none has after a batch of records. */
  #session: Session | null = null;
  #frames: Uint8Array[] = [];
  #bytes = 0;

  constructor(write: (session: Session, frame: Uint8Array) => void) {
    this.#write = write;
  }

  /** Frames to this session wait from here on, in order. */
  begin(session: Session): void {
    this.leave();
    if (session.socket?.cork !== undefined) this.#session = session;
  }

  /** Whether the frame waits. False: the caller writes it. */
  takes(session: Session, frame: Uint8Array): boolean {
    if (session !== this.#session) return false;
    if (this.#bytes + frame.length > bytesMax) {
      this.leave();
      return false;
    }
    // A frame of the hub is a Buffer in the ring, whose own slice is a view.
    this.#frames.push(Uint8Array.prototype.slice.call(frame));
    this.#bytes += frame.length;
    return true;
  }

  /** What waits is written. */
  leave(): void {
    const session = this.#session;
    if (session === null) return;
    const frames = this.#frames;
    this.#session = null;
    this.#frames = [];
    this.#bytes = 0;
    const write = () => {
      for (const frame of frames) this.#write(session, frame);
    };
    if (frames.length > 1 && session.socket !== null) session.socket.cork!(write);
    else write();
  }

  leaveIf(session: Session): void {
    if (session === this.#session) this.leave();
  }

  leaveUnless(session: Session): void {
    if (session !== this.#session) this.leave();
  }
}
