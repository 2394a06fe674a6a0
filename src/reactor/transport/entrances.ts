/**
 * The uWS Apps of a reactor. One is enough until a new certificate comes. uWS binds a certificate to its App, so a
 * second App then listens on the same port. The first stops listening and stays for the sockets it has. Topics belong
 * to an App: while it lives, each App is an audience of its own.
 */
import uWS, { type TemplatedApp, type us_listen_socket } from "uWebSockets.js";
import type { Certificate } from "../../config/certificate.ts";
import type { Reactor } from "../reactor.ts";

/** uWS has a backlog of 512 for each listen socket. With this many on the port, 10,000 clients can connect at once. */
const listenSockets = 16;
/** Every publish goes to each App. With more Apps than this, the sockets of the oldest are asked to reconnect. */
const appsMax = 4;
/** Time for requests under way when the App stops listening: longer than uWS allows a request. */
const retireMs = 15_000;

interface Entrance {
  readonly app: TemplatedApp;
  readonly listeners: us_listen_socket[];
  /** Counts the open WebSockets. */
  readonly sockets: () => number;
  retiredAt: number;
}

export interface EntrancesOptions {
  readonly reactor: Reactor;
  readonly port: number;
  /** Puts the routes on a new App; returns a function that counts its open WebSockets. */
  serve(app: TemplatedApp): () => number;
  /** Called when there are too many Apps: the sessions of this one have to reconnect. */
  sendBack(app: TemplatedApp): void;
}

export class Entrances {
  readonly #options: EntrancesOptions;
  /** The newest last; only that one listens. */
  readonly #all: Entrance[] = [];

  constructor(options: EntrancesOptions) {
    this.#options = options;
  }

  /**
   * Listens with this certificate, or none, in place of the one before.
   * @returns whether the port could be opened. `@throws` uWS's error about the certificate's files.
   */
  open(certificate: Certificate | null): boolean {
    const { reactor, port, serve } = this.#options;
    const app = createApp(certificate);
    const listeners: us_listen_socket[] = [];
    const sockets = serve(app);
    // uWS calls back before listen returns.
    for (let i = 0; i < listenSockets; i++) {
      app.listen(reactor.config.host, port, (listener) => void (listener && listeners.push(listener)));
      if (listeners.length === 0) break;
    }
    if (listeners.length === 0) {
      app.close();
      return false;
    }
    this.#all.at(-1)?.listeners.splice(0).forEach((listener) => uWS.us_listen_socket_close(listener));
    for (const entrance of this.#all) entrance.retiredAt ||= performance.now();
    this.#all.push({ app, listeners, sockets, retiredAt: 0 });
    reactor.audiences.add(app);
    if (this.#all.length > appsMax) this.#options.sendBack(this.#all[0]!.app);
    return true;
  }

  /** Closes retired Apps without sockets. */
  tidy(): void {
    const before = performance.now() - retireMs;
    for (const entrance of this.#all.filter(({ retiredAt }) => retiredAt > 0 && retiredAt < before)) {
      if (entrance.sockets() > 0) continue;
      this.#all.splice(this.#all.indexOf(entrance), 1);
      this.#options.reactor.audiences.remove(entrance.app);
      entrance.app.close();
    }
  }

  /** Stops listening. */
  stop(): void {
    for (const { listeners } of this.#all) for (const listener of listeners.splice(0)) uWS.us_listen_socket_close(listener);
  }

  /** Closes every socket: the thread must not exit before. */
  close(): void {
    for (const { app } of this.#all.splice(0)) app.close();
  }
}

function createApp(certificate: Certificate | null): TemplatedApp {
  if (certificate === null) return uWS.App();
  const { certFile, keyFile, passphrase } = certificate;
  return uWS.SSLApp({ cert_file_name: certFile, key_file_name: keyFile, ...(passphrase !== "" && { passphrase }) });
}
