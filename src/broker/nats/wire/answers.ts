/**
 * Reads answers of JetStream completely. An answer that is not understood is an error, so no answer counts as success
 * only because some expected field is present.
 */
import type { ErrorCode } from "../../../errors.ts";
import type { RefusalReason } from "../refusals.ts";

/** JetStream's API answered with an error. */
export class ApiFailure extends Error {
  override readonly name = "ApiFailure";
  readonly code: number;

  constructor({ code = 0, err_code = code, description = "no reason given" }: ApiError) {
    super(description);
    this.code = err_code;
  }
}

export interface ApiError {
  /** HTTP status. */
  readonly code?: number;
  /** Exact error code of JetStream. */
  readonly err_code?: number;
  readonly description?: string;
}

/** Fields of an answer, unchecked. */
export type Fields = Readonly<Record<string, unknown>>;

/** @throws ApiFailure where JetStream rejects the call, Error where the answer is not from JetStream. */
export function readAnswer<T>(call: string, text: string, read: (fields: Fields) => T | null): T {
  const fields = fieldsIn(text);
  const { error = null } = fields ?? {};
  if (error !== null) throw new ApiFailure(isFields(error) ? error : { description: String(error) });
  const value = fields === null ? null : read(fields);
  if (value === null) throw new Error(`${call}: the answer is not from JetStream, or from an unsupported version: ${text.slice(0, shownMax)}`);
  return value;
}

const shownMax = 200;

function fieldsIn(text: string): Fields | null {
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) ? value : null;
  } catch {
    return null;
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A count or a sequence. */
function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

// ------------------------------------------------------------------------------------- of the API

/** The settings of a stream that this program uses. */
export interface StreamConfig {
  readonly name: string;
  readonly description?: string;
  readonly subjects: readonly string[];
  readonly retention: string;
  readonly storage: string;
  readonly num_replicas: number;
  readonly max_msgs_per_subject: number;
  readonly max_age: number;
  readonly max_bytes?: number;
  readonly max_msgs?: number;
  readonly duplicate_window: number;
  readonly discard: string;
  readonly allow_direct: boolean;
  readonly republish?: { readonly src: string; readonly dest: string };
}

export interface StreamState {
  readonly first_seq: number;
  readonly last_seq: number;
  readonly subjects?: Readonly<Record<string, number>>;
}

export interface StreamInfo {
  /** The stream was created by this call. */
  readonly did_create?: boolean;
  readonly config: StreamConfig;
  readonly created: string;
  readonly state: StreamState;
}

export function readStreamInfo(fields: Fields): StreamInfo | null {
  const { config, created, state } = fields;
  if (!isFields(config) || !Array.isArray(config.subjects) || typeof created !== "string" || !isFields(state)) return null;
  const { first_seq: first, last_seq: last, subjects = {} } = state;
  if (!isNumber(first) || !isNumber(last) || !isFields(subjects) || !Object.values(subjects).every(isNumber)) return null;
  return fields as unknown as StreamInfo;
}

export interface KeptMessage {
  readonly seq: number;
  /** Base64. */
  readonly data?: string;
  /** When the stream stored it, in RFC 3339. */
  readonly time?: string;
}

export function readKeptMessage({ message }: Fields): KeptMessage | null {
  if (!isFields(message) || !isNumber(message.seq) || message.seq === 0) return null;
  if (message.time !== undefined && typeof message.time !== "string") return null;
  return message.data === undefined || typeof message.data === "string" ? (message as unknown as KeptMessage) : null;
}

export interface ConsumerInfo {
  readonly name: string;
  readonly num_pending: number;
  readonly delivered: { readonly consumer_seq: number };
}

export function readConsumerInfo(fields: Fields): ConsumerInfo | null {
  const { name, num_pending: pending, delivered } = fields;
  if (typeof name !== "string" || name === "" || !isNumber(pending) || !isFields(delivered) || !isNumber(delivered.consumer_seq)) return null;
  return fields as unknown as ConsumerInfo;
}

// ------------------------------------------------------------------------------------- of a publication

/** A stream's answer to a publication. */
export type Ack = { readonly seq: number; readonly duplicate: boolean } | NatsRefusal;

export interface NatsRefusal {
  readonly error: ErrorCode;
  readonly reason: RefusalReason;
  readonly text: string;
}

/** The long form of an acknowledgement. Another program may subscribe to the same subject and answer. */
export function readPubAck(text: string, name: string): Ack {
  const fields = fieldsIn(text);
  const { error = null, stream, seq, duplicate = false } = fields ?? {};
  if (error !== null) return refusalOf(isFields(error) ? error : {});
  if (stream === name && isNumber(seq) && seq > 0 && typeof duplicate === "boolean") return { seq, duplicate };
  return { error: "unavailable", reason: "other", text: `the answer is not from the stream: ${text.slice(0, shownMax)}` };
}

/** Limits of the server and the account, and a full disk. */
const fullCodes = new Set([10002, 10023, 10028, 10047]);
/** The stream's limits on one message and on its headers. */
const sizeCodes = new Set([10052, 10054]);
/** With this code, the text is the store's: a limit with discard "new", or an error of the system. */
const storeFailed = 10077;
const fullStore = /^(?:maximum|no space left|disk quota)/i;

function refusalOf({ code = 500, err_code = code, description = "no reason given" }: ApiError): NatsRefusal {
  const text = `${description} (${err_code})`;
  if (fullCodes.has(err_code) || (err_code === storeFailed && fullStore.test(description))) return { error: "overloaded", reason: "storage", text };
  if (sizeCodes.has(err_code)) return { error: "too_large", reason: "size", text };
  return { error: "unavailable", reason: "other", text };
}
