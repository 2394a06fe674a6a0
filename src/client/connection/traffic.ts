/** Counts what goes over the sockets of a client, and shows it to the application's `debug`. */
import type { ClientFrame, ServerFrame } from "../../protocol/messages.ts";

/** What `debug` gets: never a payload, a token or a ticket. */
export type DebugEvent =
  /** A socket is being opened. */
  | { readonly what: "open"; readonly url: string }
  /** A frame was sent (`out`) or received (`in`). `kind`: the command, reply or event, as in `flux.proto`. `id`: joins a command and its reply; 0 for others. */
  | { readonly what: "out" | "in"; readonly kind: string; readonly id: number; readonly room: string; readonly bytes: number }
  /** A socket has closed. */
  | { readonly what: "close"; readonly code: number; readonly reason: string };

/** Called with everything that passes the socket. What it throws is ignored. */
export type Debug = (event: DebugEvent) => void;

export class Traffic {
  sockets = 0;
  framesSent = 0;
  framesReceived = 0;
  bytesSent = 0;
  bytesReceived = 0;
  readonly #debug: Debug | null;

  constructor(debug: Debug | null) {
    this.#debug = debug;
  }

  opening(url: string): void {
    this.sockets++;
    this.#tell(() => ({ what: "open", url: url.replace(/[?#].*/, "") }));
  }

  sent(frame: ClientFrame, bytes: number): void {
    this.framesSent++;
    this.bytesSent += bytes;
    this.#tell(() => frameEvent("out", frame, bytes));
  }

  received(frame: ServerFrame, bytes: number): void {
    this.framesReceived++;
    this.bytesReceived += bytes;
    this.#tell(() => frameEvent("in", frame, bytes));
  }

  closed(code: number, reason: string): void {
    this.#tell(() => ({ what: "close", code, reason }));
  }

  #tell(event: () => DebugEvent): void {
    if (this.#debug === null) return;
    try {
      this.#debug(event());
    } catch {
      // It only watches.
    }
  }
}

function frameEvent(what: "out" | "in", frame: ClientFrame | ServerFrame, bytes: number): DebugEvent {
  const [kind = "", content] = Object.entries(frame).find(([name, value]) => name !== "id" && value) ?? [];
  const { room } = (content ?? {}) as { room?: unknown };
  return { what, kind, id: frame.id ?? 0, room: typeof room === "string" ? room : "", bytes };
}
