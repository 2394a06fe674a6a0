/** Every call of the log in src, as the text that it writes: `*` stands for what differs from line to line. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { root } from "./root.ts";

export interface LogCall {
  /** Below src, with the line. */
  readonly at: string;
  readonly level: string;
  /** Null: the text is made elsewhere. */
  readonly text: string | null;
}

const mayCall = /(log|\(config\))\??\.(fatal|error|warn|info|debug|trace)\(/;
const levels = new Set(["fatal", "error", "warn", "info", "debug", "trace"]);

let read: LogCall[] | null = null;

export function logCalls(): LogCall[] {
  return (read ??= readCalls());
}

function readCalls(): LogCall[] {
  const folder = join(root, "src");
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !/^(contracts|dashboard\/page)\//.test(name))
    .sort()
    .flatMap((name) => {
      const text = readFileSync(join(folder, name), "utf8");
      // Parsing costs far more than looking.
      return mayCall.test(text) ? callsIn(name, text) : [];
    });
}

function callsIn(name: string, text: string): LogCall[] {
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: LogCall[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { name: method, expression } = node.expression;
      const of = expression.getText(file);
      const last = node.arguments.at(-1);
      if (levels.has(method.text) && /(^|[.#])log$|createLogger\(.*\)$/.test(of) && last !== undefined) {
        const line = file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;
        for (const text of textsOf(last)) found.push({ at: `${name}:${line}`, level: method.text, text });
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function textsOf(node: ts.Expression): (string | null)[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isTemplateExpression(node)) return [node.head.text + node.templateSpans.map(({ literal }) => `*${literal.text}`).join("")];
  if (ts.isConditionalExpression(node)) return [...textsOf(node.whenTrue), ...textsOf(node.whenFalse)];
  if (ts.isParenthesizedExpression(node)) return textsOf(node.expression);
  return [null];
}
