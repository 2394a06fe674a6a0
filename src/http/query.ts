/** The token of a client in the query of a request. */

/** Null: there is none. */
export function tokenIn({ url }: { readonly url: string }): string | null {
  const start = url.indexOf("?");
  return start < 0 || !url.includes("token=", start) ? null : new URLSearchParams(url.slice(start + 1)).get("token");
}
