/** Requests of the page to its node. The cookie proves who asks; only this page can send what changes something. */
import { signal } from "@preact/signals";

export class Failed extends Error {
  readonly status: number;
  readonly retryAfter: number;

  constructor(status: number, text: string, retryAfter = 0) {
    super(text);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export interface Session {
  readonly node: string;
  readonly version: string;
  /** The port needs no key. */
  readonly open: boolean;
  readonly name: string;
}

/** Undefined: not known yet. Null: log in. */
export const session = signal<Session | null | undefined>(undefined);

const timeoutMs = 15_000;

export async function ask<T>(path: string, { method = "GET", body, signal: stop }: { method?: string; body?: unknown; signal?: AbortSignal } = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/dashboard/${path}`, {
      method,
      signal: stop ?? AbortSignal.timeout(timeoutMs),
      ...(method !== "GET" && { headers: { "Content-Type": "application/json" } }),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw new Failed(0, error instanceof DOMException && error.name === "TimeoutError" ? "The node did not answer in time." : "The node cannot be reached.");
  }
  const text = await response.text();
  if (response.ok) return jsonOf(text) as T;
  if (response.status === 401 && path !== "login") session.value = null;
  throw new Failed(response.status, problemIn(jsonOf(text)) ?? `The node answered ${response.status}.`, Number(response.headers.get("retry-after") ?? 0));
}

/** Of the admin port: {error: {text}}. Of the HTTP API: {detail}. */
function problemIn(answer: unknown): string | null {
  const { error, detail, title } = (answer ?? {}) as { error?: { text?: string }; detail?: string; title?: string };
  return error?.text ?? detail ?? title ?? null;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text.trim().split("\n").at(-1) ?? "");
  } catch {
    return null;
  }
}

export function query(values: Readonly<Record<string, string | number | undefined | null>>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

export async function whoAmI(): Promise<void> {
  try {
    session.value = await ask<Session>("session");
  } catch (error) {
    if (!(error instanceof Failed) || error.status !== 401) throw error;
  }
}
