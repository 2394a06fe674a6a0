import { errors, type ErrorCode } from "../errors.ts";

/** Error of a call of the embedding program. It has the codes that clients get. */
export class ApiError extends Error {
  /** Always `ApiError`. */
  override readonly name = "ApiError";
  /** One of the codes of `errors`. */
  readonly code: ErrorCode;
  /** What happened, in a sentence. */
  readonly text: string;
  /** The same call may succeed later without any change to it. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, text: string = errors[code].text) {
    super(`${code}: ${text}`);
    this.code = code;
    this.text = text;
    this.retryable = errors[code].retryable;
  }
}
