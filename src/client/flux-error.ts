import { errors } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { ErrorReply } from "../protocol/messages.ts";

/** Codes the SDK adds to those of the node. */
export const clientErrors = {
  disconnected: { retryable: true, text: "the connection was lost before the node answered" },
  timeout: { retryable: true, text: "the node did not answer in time" },
  closed: { retryable: false, text: "the client is closed" },
  removed: { retryable: false, text: "the application removed the user" },
  left: { retryable: false, text: "the room was left" },
  no_token: { retryable: true, text: "the token provider returned no token" },
  not_located: { retryable: true, text: "locate returned no address that the client may use" },
  bad_url: { retryable: true, text: "a node sent the client to an address that it may not use" },
  not_saved: { retryable: true, text: "the storage rejected the session: it will not survive a reload" },
  handler_failed: { retryable: false, text: "the message handler of the application failed" },
  bad_payload: { retryable: false, text: "a payload cannot be read as JSON" },
} as const satisfies Record<string, { retryable: boolean; text: string }>;

export type ClientErrorCode = keyof typeof clientErrors;

/** Error of a command: promises reject with it, and `error` events carry it. */
export class FluxError extends Error {
  /** Always `FluxError`. */
  override readonly name = "FluxError";
  /** Error code of the node or of the SDK. A newer node may send others. */
  readonly code: string;
  /** What happened, in a sentence. */
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
