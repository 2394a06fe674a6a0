/** Positions as the HTTP API writes them: `epoch:seq`. */
import { ApiError } from "../api/error.ts";
import type { Position } from "../broker/broker.ts";

const form = /^(\S{0,128}):(0|[1-9]\d{0,15})$/;

export function cursorOf({ epoch, seq }: Position): string {
  return `${epoch}:${seq}`;
}

/** @throws ApiError where it has another form. */
export function positionIn(field: string, cursor: string): Position {
  const [, epoch, digits] = form.exec(cursor) ?? [];
  const seq = Number(digits);
  if (epoch === undefined || !Number.isSafeInteger(seq)) throw new ApiError("bad_request", `${field}: must be a position, as epoch:seq`);
  return { epoch, seq };
}
