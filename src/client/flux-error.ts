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
  unreachable: { retryable: true, text: "no WebSocket can be opened at the address" },
  invalid_data: { retryable: false, text: "data does not match the schema of the application" },
  unknown: { retryable: false, text: "a newer node sent an error that this SDK does not know; the text names it" },
  bad_payload: { retryable: false, text: "a payload cannot be read as JSON" },
} as const satisfies Record<string, { retryable: boolean; text: string }>;

export type ClientErrorCode = keyof typeof clientErrors;
/** Every code that a `FluxError` has: those of the node, and those of the SDK. */
export type FluxErrorCode = ErrorCode | ClientErrorCode;

/** Error of a command: promises reject with it, and `error` events carry it. */
export class FluxError extends Error {
  /** Always `FluxError`. */
  override readonly name = "FluxError";
  /** Error code of the node or of the SDK. */
  readonly code: FluxErrorCode;
  /** What happened, in a sentence. */
  readonly text: string;
  /** The same command may succeed later without any change to it. */
  readonly retryable: boolean;

  /** @internal */
  constructor(code: FluxErrorCode, text: string, retryable: boolean) {
    super(`${code}: ${text}`);
    this.code = code;
    this.text = text;
    this.retryable = retryable;
  }
}

export function fluxError(code: FluxErrorCode, text?: string): FluxError {
  const entry = code in errors ? errors[code as ErrorCode] : clientErrors[code as ClientErrorCode];
  return new FluxError(code, text ?? entry.text, entry.retryable);
}

export function fromReply(reply: ErrorReply): FluxError {
  const [code, text, retryable] = [reply.code ?? "", reply.text ?? "", reply.retryable ?? false];
  if (code in errors) return new FluxError(code as ErrorCode, text, retryable);
  return new FluxError("unknown", `${code}: ${text}`, retryable);
}
