/** Checks of data by a schema of the application. */
import { fluxError } from "../flux-error.ts";

/** What Standard Schema (https://standardschema.dev) defines: schemas of zod, valibot, arktype and others have it. */
export type Schema<Output = unknown> = {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
  };
};

/** `issues`: the value does not match, and why. Otherwise `value`, which the schema may have changed. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string; readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined }[] };

/** @throws FluxError invalid_data */
export function validated<Output>(schema: Schema<Output>, value: unknown, what: string): Output {
  let result: ReturnType<Schema<Output>["~standard"]["validate"]>;
  try {
    result = schema["~standard"].validate(value);
  } catch (error) {
    throw fluxError("invalid_data", `the schema failed on ${what}: ${String(error)}`);
  }
  if ("then" in result) throw fluxError("invalid_data", "the schema answers later; publications cannot wait for it without losing their order");
  if (result.issues === undefined) return result.value;
  const { message = "", path = [] } = result.issues[0] ?? {};
  const where = path.map((part) => String(typeof part === "object" ? part.key : part)).join(".");
  throw fluxError("invalid_data", `${what} does not match the schema: ${where === "" ? "" : `${where}: `}${message}`);
}
