/** What the errors of PostgreSQL mean for the operator. */

/** An error that stays until an operator acts, with the way to mend it. */
export class PostgresProblem extends Error {
  override readonly name = "PostgresProblem";
}

/** What an error says. One for several addresses of a host has a code only. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message || codeOf(error) || error.name : String(error);
}

export function codeOf(error: unknown): string {
  return String((error as { readonly code?: unknown }).code ?? "");
}

/** Explains an error that stays until an operator acts; null: it may pass. */
export function lasting(error: unknown): PostgresProblem | null {
  if (error instanceof PostgresProblem) return error;
  const { message } = error as Error;
  const text = explanations[codeOf(error)] ?? (/SSL|TLS|certificate/i.test(message) ? "check sslmode and sslrootcert in the address" : undefined);
  return text === undefined ? null : new PostgresProblem(`${message}; ${text}`);
}

const explanations: Readonly<Record<string, string>> = {
  "28P01": "correct user and password in the address",
  "28000": "the server does not let this user in; correct the address, or pg_hba.conf of the server",
  "3D000": "create the database, or correct its name in the address",
  "42501": "grant the user what it lacks, or use the owner of the tables",
  "3F000": "the schema does not exist; correct search_path of the user or in the address",
  "25006": "the database is read-only; use the address of the primary server",
  "42P01": "a table is missing; restore the database, or use an empty one",
  "42703": "a column is missing; restore the database, or use an empty one",
  "0A000": "the server does not support it; PostgreSQL 14 or later is needed",
};
