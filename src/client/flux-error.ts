import { errors } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { ErrorReply } from "../protocol/messages.ts";

/** Codes the SDK adds to those of the node. */
export const clientErrors = {
  disconnected: { retryable: true, text: "the socket went before the node answered" },
  timeout: { retryable: true, text: "the node did not answer in time" },
  closed: { retryable: false, text: "the client is closed" },
  left: { retryable: false, text: "the room was left" },
  no_token: { retryable: true, text: "the token provider gave no token" },
  not_saved: { retryable: true, text: "the session cannot be kept for a reload" },
  handler_failed: { retryable: false, text: "what the application does with a message failed" },
  bad_payload: { retryable: false, text: "a payload could not be written or read as JSON" },
} as const satisfies Record<string, { retryable: boolean; text: string }>;

export type ClientErrorCode = keyof typeof clientErrors;

/** What a command that failed is rejected with, and what error events carry. */
export class FluxError extends Error {
  override readonly name = "FluxError";
  /** One of the node's error codes or of the SDK's own; a newer node may send others. */
  readonly code: string;
  readonly text: string;
  /** The same command may succeed later without any change to it. */
  readonly retryable: boolean;

  constructor(code: string, text: string, retryable: boolean) {
    super(`${code}: ${text}`);
    this.code = code;
    this.text = text;
    this.retryable = retryable;
  }
}

export function fluxError(code: ErrorCode | ClientErrorCode, text?: string): FluxError {
  const entry = code in errors ? errors[code as ErrorCode] : clientErrors[code as ClientErrorCode];
  return new FluxError(code, text ?? entry.text, entry.retryable);
}

export function fromReply(reply: ErrorReply): FluxError {
  return new FluxError(reply.code ?? "internal", reply.text ?? "", reply.retryable ?? false);
}
