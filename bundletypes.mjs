// Joins the types of the client into one file.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import ts from "typescript";

/**
 * The types of an entry of the SDK as one file: everything that it exports, and what that names. So they need no file of
 * ours that an application does not see. What is marked `@internal` is left out.
 * @param {string} entry a .d.ts file
 * @param {string} [base] the entry `./index.js`, which another one imports its types from
 */
export function bundleTypes(entry, base) {
  const files = new Map();
  const open = (path) => files.get(path) ?? files.set(path, read(path)).get(path);
  const ofBase = new Map((base ? open(base).exported : []).map((name) => [name, find(open, base, name)?.path]));
  const written = new Map();
  const imports = new Set();
  const texts = [];

  const write = (path, name) => {
    const found = find(open, path, name);
    if (found === undefined) return; // of the platform
    if (!found.nodes) return void imports.add(`import type { ${found.name} } from "${found.path}";`);
    if (ofBase.get(found.name) === found.path) return void imports.add(`import type { ${found.name} } from "./index.js";`);
    if (written.get(found.name) === found.path) return;
    if (written.has(found.name)) throw new Error(`two types are named ${name}: in ${written.get(name)} and ${found.path}`);
    written.set(found.name, found.path);
    for (const node of found.nodes) {
      texts.push(textOf(node));
      for (const used of namesIn(node)) write(found.path, used);
    }
  };

  const { exported } = open(entry);
  for (const name of exported) write(entry, name);
  const isOne = (name) => isValue(find(open, entry, name).nodes[0]) && !open(entry).reExported.get(name)?.isType;
  const lines = [["export", exported.filter(isOne)], ["export type", exported.filter((name) => !isOne(name))]];
  return [...[...imports].sort(), ...texts, ...lines.filter(([, names]) => names.length > 0).map(([how, names]) => `${how} { ${names.join(", ")} };`), ""].join("\n");
}

/** Where a name that a file uses is declared; without `nodes`: in another package. */
function find(open, path, name) {
  const { declared, imported, reExported } = open(path);
  if (declared.has(name)) return { path, name, nodes: declared.get(name) };
  const from = imported.get(name) ?? reExported.get(name);
  if (from === undefined) return undefined;
  if (!from.path.startsWith(".")) return { path: from.path, name: from.name };
  return find(open, join(dirname(path), from.path.replace(/\.[jt]s$/, ".d.ts")), from.name);
}

/** What a .d.ts file declares, imports and exports. */
function read(path) {
  const source = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
  const found = { declared: new Map(), imported: new Map(), reExported: new Map(), exported: [] };
  for (const node of source.statements) {
    if (ts.isImportDeclaration(node)) {
      for (const { name, propertyName } of node.importClause?.namedBindings?.elements ?? []) found.imported.set(name.text, { path: node.moduleSpecifier.text, name: (propertyName ?? name).text });
    } else if (ts.isExportDeclaration(node)) {
      for (const { name, propertyName } of node.exportClause?.elements ?? []) {
        found.exported.push(name.text);
        if (node.moduleSpecifier) found.reExported.set(name.text, { path: node.moduleSpecifier.text, name: (propertyName ?? name).text, isType: node.isTypeOnly });
      }
    } else {
      const names = ts.isVariableStatement(node) ? node.declarationList.declarations.map(({ name }) => name.text) : [node.name?.text];
      const isExported = node.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
      for (const name of names.filter(Boolean)) {
        found.declared.set(name, [...(found.declared.get(name) ?? []), node]);
        if (isExported && !found.exported.includes(name)) found.exported.push(name);
      }
    }
  }
  return found;
}

function isValue(node) {
  return ts.isClassDeclaration(node) || ts.isFunctionDeclaration(node) || ts.isVariableStatement(node);
}

const isInternal = (node) => ts.getJSDocTags(node).some(({ tagName }) => tagName.text === "internal");

/** With its comments, without `export`, and without members that are internal. */
function textOf(node) {
  const source = node.getSourceFile().text;
  const from = ts.getJSDocCommentsAndTags(node)[0]?.getStart() ?? node.getStart();
  let text = source.slice(from, node.getEnd());
  for (const member of (node.members ?? []).filter(isInternal).reverse()) text = text.slice(0, member.getFullStart() - from) + text.slice(member.getEnd() - from);
  return text.replace(/^(export )?(declare )?(?=(class|function|const|interface|type|abstract class)\b)/m, (_, __, ___, kind) => (kind === "interface" || kind === "type" ? "" : "declare "));
}

/** Names of types and values in its types. */
function* namesIn(node) {
  if (isInternal(node) && ts.isClassElement(node)) return;
  if (ts.isImportTypeNode(node)) throw new Error(`name the type instead: ${node.getText()}`);
  if (ts.isTypeReferenceNode(node)) yield leftmost(node.typeName);
  if (ts.isTypeQueryNode(node)) yield leftmost(node.exprName);
  if (ts.isExpressionWithTypeArguments(node)) yield node.expression.getText();
  const parts = [];
  ts.forEachChild(node, (child) => void parts.push(child));
  for (const part of parts) yield* namesIn(part);
}

function leftmost(name) {
  return ts.isQualifiedName(name) ? leftmost(name.left) : name.text;
}
