/** Limits of the protocol that no configuration changes. */

/** Publications of a history command without a limit, and the maximum in one page of any kind. */
export const historyLimitDefault = 100;
export const pageSizeMax = 256;
/** Characters of an idempotency key: two UUIDs, or a UUID with a prefix. */
export const keyCharsMax = 128;
