/** The page of protocol messages, from proto/flux.proto and its comments. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";
import { code, table } from "../../src/cli/tables.ts";
import { root } from "./root.ts";

const { parse, Type, Enum, OneOf, MapField } = protobuf;

export function protocolDoc(): string {
  const source = readFileSync(join(root, "proto/flux.proto"), "utf8");
  const { root: tree } = parse(source, { keepCase: false, alternateCommentMode: true });
  const namespace = tree.lookup("flux.v1") as protobuf.Namespace;
  const opening = source.slice(0, source.indexOf("syntax =")).split("\n").map((line) => line.replace(/^\/\/ ?/, "")).join("\n").trim();
  const parts = namespace.nestedArray.map((one) => (one instanceof Type ? messageDoc(one) : one instanceof Enum ? enumDoc(one) : ""));
  return [`\`\`\`text\n${opening}\n\`\`\``, ...parts.filter((part) => part !== "")].join("\n\n");
}

function messageDoc(type: protobuf.Type): string {
  const rows = type.fieldsArray.map((field) => {
    const { id, name, comment, resolvedType } = field.resolve();
    // A frame's fields are explained by what they hold.
    const text = oneLine(comment) || oneLine(resolvedType?.comment ?? null).split(/(?<=\.) /)[0]!;
    return [String(id), code(name), typeOf(field), text];
  });
  const heading = `## ${type.name}`;
  const text = oneLine(type.comment);
  const of = type.oneofsArray.filter((one) => one instanceof OneOf && !one.name.startsWith("_"));
  const choice = of.length > 0 ? "A frame has `id` and one of the other fields." : "";
  const fields = rows.length === 0 ? "No fields." : table(["number", "field", "type", "what it is"], rows);
  return [heading, text, choice, fields].filter((part) => part !== "").join("\n\n");
}

function typeOf(field: protobuf.Field): string {
  if (field instanceof MapField) return code(`map of ${field.type}`);
  const isOurs = field.resolvedType !== null;
  const name = isOurs ? `[${code(field.type)}](#${field.type.toLowerCase()})` : code(field.type);
  return field.repeated ? `list of ${name}` : name;
}

function enumDoc({ name, values, comment }: protobuf.Enum): string {
  const rows = Object.entries(values).map(([key, number]) => [String(number), code(key)]);
  return [`## ${name}`, oneLine(comment), table(["number", "value"], rows)].filter((part) => part !== "").join("\n\n");
}

function oneLine(comment: string | null): string {
  return (comment ?? "").replace(/\s+/g, " ").replace(/^-+ (client → node|node → client)/, "").trim();
}
