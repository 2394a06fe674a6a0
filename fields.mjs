/**
 * Writes src/protocol/fields.ts: the messages of proto/flux.proto that a client sends or gets, in the form that
 * src/protocol/clientcodec.ts reads. build.mjs calls it. The file is in the repository, so that types can be checked
 * without a build.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import protobuf from "protobufjs";

const file = "src/protocol/fields.ts";
const kinds = { uint32: "u", uint64: "n", bool: "b", string: "s", bytes: "y" };

/** Leaves the file as it is where nothing has changed: builds look at its time. */
export function writeFields() {
  const text = fieldsOf(readFileSync("proto/flux.proto", "utf8"));
  if (!existsSync(file) || readFileSync(file, "utf8") !== text) writeFileSync(file, text);
}

/** @param {string} proto text of flux.proto */
export function fieldsOf(proto) {
  const { root } = protobuf.parse(proto);
  root.resolveAll();
  const lines = new Map();
  const add = (type) => {
    if (lines.has(type.name)) return;
    lines.set(type.name, "");
    lines.set(type.name, type.fieldsArray.map(fieldOf).join(" "));
    for (const { resolvedType } of type.fieldsArray) if (resolvedType instanceof protobuf.Type) add(resolvedType);
  };
  for (const name of ["ClientFrame", "ServerFrame"]) add(root.lookupType(`flux.v1.${name}`));
  return [
    "/**",
    " * Messages of flux.v1 that a client sends or gets. Each field: number, name, kind. Kinds: u uint32 or enum, n uint64, b",
    " * bool, s string, y bytes, or the name of a message. * repeated, ? optional.",
    " * Made by `node build.mjs` from proto/flux.proto.",
    " */",
    "export const fields = {",
    ...[...lines].map(([name, text]) => `  ${name}: "${text}",`),
    "};",
    "",
  ].join("\n");
}

function fieldOf({ id, name, type, resolvedType, repeated, options }) {
  const kind = resolvedType instanceof protobuf.Type ? resolvedType.name : resolvedType instanceof protobuf.Enum ? "u" : kinds[type];
  if (kind === undefined) throw new Error(`src/protocol/clientcodec.ts does not know fields of type ${type} (${name})`);
  return `${id}${name}:${kind}${repeated ? "*" : options?.proto3_optional ? "?" : ""}`;
}
