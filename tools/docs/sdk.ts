/**
 * The page of the SDK: what src/client/index.ts and src/client/react.ts export, with signatures and comments as they stand in the source. The
 * files are parsed, not type-checked, which costs a tenth of the time.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import ts from "typescript";
import { code, sentence, table, yesOrNo } from "../../src/cli/tables.ts";
import { clientErrors } from "../../src/client/flux-error.ts";
import { defaults } from "../../src/client/options.ts";
import { closes, mayReconnect } from "../../src/errors.ts";
import { root } from "./root.ts";

/** A constant is one that has a type: a component. */
type Declaration = ts.ClassDeclaration | ts.InterfaceDeclaration | ts.TypeAliasDeclaration | ts.FunctionDeclaration | ts.VariableDeclaration;

/** What a reader looks for first; types that are left follow by name. */
const first = ["connect", "ClientOptions", "Client", "ClientEvents", "Room", "JoinOptions", "RoomEvents", "Inbox", "InboxEvents", "Members", "MembersEvents", "FluxError"];

export function sdkDoc(): string {
  const found = exportsOf(join(root, "src/client/index.ts"));
  const rest = [...found.keys()].filter((name) => !first.includes(name)).sort();
  const parts = [...first, ...rest].map((name) => declarationDoc(name, found.get(name)));
  return [...parts, errorsDoc(), closesDoc(), reactDoc()].join("\n\n");
}

/** The hooks, each followed by what it takes and returns. */
const hooks = ["FluxProvider", "FluxProviderProps", "useRoom", "RoomOptions", "RoomHandle", "RoomView", "usePresence", "PresenceView", "useStatus", "Statuses", "useConnectionState", "useClient"];

function reactDoc(): string {
  const found = exportsOf(join(root, "src/client/react.ts"));
  const missing = [...found.keys()].filter((name) => !hooks.includes(name));
  if (missing.length > 0) throw new Error(`not on the page: ${missing.join(", ")}`);
  const intro = "Everything that `flux-gateway/client/react` and `flux-gateway-client/react` export, for React 18 and 19. [React](../recipes/react.md) shows how to use it.";
  return ["## React", intro, ...hooks.map((name) => declarationDoc(name, found.get(name)).replace(/^## /, "### "))].join("\n\n");
}

/** Exported names that are wanted, each with where it is declared. */
export function exportsOf(index: string, isWanted: (name: string) => boolean = () => true): Map<string, Declaration> {
  const found = new Map<string, Declaration>();
  const files = new Map<string, ts.SourceFile>();
  const open = (path: string) => {
    const file = files.get(path) ?? ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
    files.set(path, file);
    return file;
  };
  for (const statement of open(index).statements) {
    if (isDeclaration(statement) && statement.name) found.set(statement.name.text, statement);
    if (!ts.isExportDeclaration(statement) || !statement.exportClause || !ts.isNamedExports(statement.exportClause)) continue;
    const path = join(dirname(index), (statement.moduleSpecifier as ts.StringLiteral).text);
    for (const { name } of statement.exportClause.elements) {
      if (!isWanted(name.text)) continue;
      const declaration = open(path).statements.flatMap(declarationsIn).find((one) => one.name?.getText() === name.text);
      if (declaration === undefined) throw new Error(`${path} does not declare ${name.text}`);
      found.set(name.text, declaration);
    }
  }
  return found;
}

function declarationsIn(node: ts.Statement): readonly Declaration[] {
  if (ts.isVariableStatement(node)) return node.declarationList.declarations;
  return isDeclaration(node) ? [node] : [];
}

function isDeclaration(node: ts.Node): node is Exclude<Declaration, ts.VariableDeclaration> {
  return ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) || ts.isFunctionDeclaration(node);
}

export function declarationDoc(name: string, declaration: Declaration | undefined): string {
  if (declaration === undefined) throw new Error(`${name} is not exported`);
  return [`## ${name}`, commentOf(declaration), bodyDoc(name, declaration)].filter((part) => part !== "").join("\n\n");
}

function bodyDoc(name: string, declaration: Declaration): string {
  if (ts.isFunctionDeclaration(declaration)) return `\`\`\`ts no-check\n${signature(declaration)}\n\`\`\``;
  if (ts.isVariableDeclaration(declaration)) return `\`\`\`ts no-check\nconst ${name}: ${declaration.type?.getText() ?? ""}\n\`\`\``;
  if (ts.isClassDeclaration(declaration)) return membersDoc(declaration.members.filter(isPublic));
  if (ts.isInterfaceDeclaration(declaration)) return membersDoc(declaration.members);
  const { type } = declaration;
  if (ts.isTypeLiteralNode(type)) return name.endsWith("Events") ? eventsDoc(type.members) : name === "ClientOptions" ? optionsDoc(type.members) : membersDoc(type.members);
  if (ts.isIntersectionTypeNode(type)) {
    const own = type.types.find(ts.isTypeLiteralNode);
    const bases = type.types.filter((one) => one !== own).map((one) => code(one.getText()));
    return `All of ${bases.join(", ")}, and:\n\n${membersDoc(own?.members ?? [])}`;
  }
  if (name === "ClientErrorCode") return "The codes of [errors of the SDK](#errors-of-the-sdk).";
  return `\`\`\`ts no-check\ntype ${name} = ${type.getText()};\n\`\`\``;
}

function membersDoc(members: readonly ts.Node[]): string {
  const shown = members.filter((one) => !ts.isConstructorDeclaration(one));
  // Names that explain themselves need no table.
  if (shown.every((one) => commentOf(one) === "")) return `\`\`\`ts no-check\n${shown.map((one) => `${signature(one)};`).join("\n")}\n\`\`\``;
  return table(["member", "what it is"], shown.map((one) => [code(signature(one)), commentOf(one)]));
}

function eventsDoc(members: readonly ts.TypeElement[]): string {
  return table(["event", "listener gets", "when"], members.map((one) => [code(one.name?.getText() ?? ""), code(typeText(one)), commentOf(one)]));
}

function optionsDoc(members: readonly ts.TypeElement[]): string {
  const rows = members.filter((one) => !commentOf(one).startsWith("For tests") && commentOf(one) !== "").map((one) => {
    const name = one.name?.getText() ?? "";
    const preset = name in defaults ? defaults[name as keyof typeof defaults] : undefined;
    return [code(name), code(typeText(one)), preset === undefined || preset === "" ? "none" : code(JSON.stringify(preset)), commentOf(one)];
  });
  return table(["option", "type", "default", "what it is"], rows);
}

function typeText(member: ts.TypeElement): string {
  return ts.isPropertySignature(member) ? (member.type?.getText() ?? "").replace(/\s+/g, " ") : signature(member);
}

function isPublic(member: ts.ClassElement): boolean {
  if (member.name === undefined || ts.isPrivateIdentifier(member.name)) return false;
  return !ts.getJSDocTags(member).some(({ tagName }) => tagName.text === "internal");
}

/** Without the body, and on one line. */
function signature(node: ts.Node): string {
  const text = node.getText();
  const body = (node as { body?: ts.Node }).body;
  const head = body === undefined ? text : text.slice(0, body.getStart() - node.getStart());
  return head.replace(/^(export|async|override|readonly) /g, "").replace(/\b(export|async|override|readonly) (?=\w+\s*[(<?:])/g, "").replace(/\s+/g, " ").replace(/^get (\w+)\(\)/, "$1").replace(/[;,\s]+$/, "");
}

/** The sentences of a doc comment, on one line. Names in links and tags stay as they are written. */
function commentOf(node: ts.Node): string {
  const [doc] = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc);
  const tags = (doc?.tags ?? []).map((tag) => `${tag.tagName.text === "throws" ? "Throws" : tag.tagName.text} ${ts.getTextOfJSDocComment(tag.comment) ?? ""}`);
  return [ts.getTextOfJSDocComment(doc?.comment) ?? "", ...tags].filter((part) => part !== "").join(" ").replace(/\s+/g, " ").trim();
}

function errorsDoc(): string {
  const rows = Object.entries(clientErrors).map(([name, { retryable, text }]) => [code(name), yesOrNo(retryable), sentence(text)]);
  return ["## Errors of the SDK", "A `FluxError` has one of the [codes of the node](errors.md), or one of these:", table(["error", "retryable", "meaning"], rows)].join("\n\n");
}

function closesDoc(): string {
  const codes = Object.values(closes).map(({ code: number }) => number).filter((number) => !mayReconnect(number));
  return `## When the client gives up\n\nThe client reconnects after every close, except after ${codes.join(", ")} and 4500 to 4999. It is \`closed\` then, and the event \`closed\` says why.
After 3500 it asks the token provider once more before it gives up. A page that is left closes its socket with 4006.`;
}
