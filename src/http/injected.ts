/**
 * Requests to the HTTP API that did not come over HTTP. They are made to look as if they had, so that routes, checks,
 * limits, counts and the audit log are those of every other request.
 */
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";

export interface Injected {
  readonly method: string;
  readonly url: string;
  /** In small letters. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** For the log, in place of an address. */
  readonly from: string;
}

export interface InjectedAnswer {
  readonly status: number;
  /** JSON. */
  readonly text: string;
}

/** @param done called once. */
export function inject(serve: (req: IncomingMessage, res: ServerResponse) => void, { method, url, headers, body, from }: Injected, done: (answer: InjectedAnswer) => void): void {
  const req = new IncomingMessage(socketOf(from));
  Object.assign(req, { method, url, complete: true });
  Object.assign(req.headers, headers);
  serve(req, new Captured(req, done));
  req.push(body);
  req.push(null);
}

/** Node's own would write to the socket. */
class Captured extends ServerResponse {
  readonly #done: (answer: InjectedAnswer) => void;
  #status = 0;
  #isOver = false;

  constructor(req: IncomingMessage, done: (answer: InjectedAnswer) => void) {
    super(req);
    this.#done = done;
  }

  override writeHead(status: number): this {
    this.#status = status;
    // Of the prototype it is a getter, for headers that were written to a socket.
    Object.defineProperty(this, "headersSent", { value: true });
    return this;
  }

  override end(text?: unknown): this {
    this.#finish({ status: this.#status, text: typeof text === "string" ? text : "" });
    return this;
  }

  override destroy(): this {
    this.#finish({ status: 500, text: "" });
    return this;
  }

  #finish(answer: InjectedAnswer): void {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      this.#done(answer);
    } finally {
      this.emit("close");
      this.req.emit("close");
    }
  }
}

const sockets = new Map<string, Socket>();

/** Never connected: one for all requests of a kind. */
function socketOf(from: string): Socket {
  const known = sockets.get(from);
  if (known !== undefined) return known;
  const socket = new Socket();
  Object.defineProperty(socket, "remoteAddress", { value: from });
  sockets.set(from, socket);
  return socket;
}
