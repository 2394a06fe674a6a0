/** The form of every error on the port for clients that is no problem of the HTTP API. */

export const jsonType = "application/json; charset=utf-8";

export function errorJson(code: string, text: string, retryable: boolean): string {
  return JSON.stringify({ error: { code, text, retryable } });
}
