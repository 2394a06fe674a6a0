/** Times of the archive are microseconds since 1970, which a JavaScript number holds exactly. */
export function microseconds(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000000)::bigint`;
}
