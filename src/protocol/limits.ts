/** Limits that are the protocol's, not the configuration's. */

/** Publications a history command gets that does not say how many it wants, and at most in one page of anything. */
export const historyLimitDefault = 100;
export const pageSizeMax = 256;
