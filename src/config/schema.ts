/** JSON Schema of a configuration file, made from the table of options. Editors check and complete the file with it. */
import type { JsonSchema } from "./values.ts";
import { namePattern, namespaceKeys, namespaceRows } from "./namespaces.ts";
import type { Option } from "./config.ts";
import { rows, type Row } from "./options.ts";

export function configSchema(options: readonly Option[]): JsonSchema {
  const properties = options.map(({ key, text, defaultText, over }): [string, JsonSchema] => {
    const fallback = over === undefined ? "" : ` Beyond it: ${over}.`;
    const description = `${text}${fallback} Default: ${defaultText === "" ? "none" : defaultText}.`;
    if (key === "namespaces") return [key, { description, ...namespacesSchema() }];
    const { check }: Row<unknown> = rows[key];
    return [key, { description, ...check.json }];
  });
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of flux-gateway",
    type: "object",
    additionalProperties: false,
    properties: { $schema: { type: "string" }, ...Object.fromEntries(properties) },
  };
}

function namespacesSchema(): JsonSchema {
  const properties = Object.fromEntries(namespaceKeys.map((key) => [key, { description: namespaceRows[key].text, ...namespaceRows[key].check.json }]));
  const namespace = { type: ["object", "null"], additionalProperties: false, properties };
  return { type: ["object", "string"], additionalProperties: false, patternProperties: { [namePattern.source]: namespace } };
}
