/** Reads expressions of Prometheus: whether they parse, and which metrics and labels they name. */
import { parser } from "@prometheus-io/lezer-promql";

export interface Named {
  readonly metric: string;
  readonly matchers: readonly { readonly label: string; readonly op: string; readonly value: string }[];
}

export interface Expression {
  readonly selectors: readonly Named[];
  /** Labels of by, without, on and ignoring. */
  readonly groupedBy: readonly string[];
}

/** Grafana fills in its variables before Prometheus reads the expression. */
export function filled(expr: string, variables: Readonly<Record<string, string>>): string {
  return expr.replace(/\$(\w+)/g, (whole, name: string) => variables[name] ?? whole);
}

/** @throws where it does not parse */
export function readExpression(expr: string): Expression {
  const selectors: { metric: string; matchers: { label: string; op: string; value: string }[] }[] = [];
  const groupedBy: string[] = [];
  const text = (at: { from: number; to: number }) => expr.slice(at.from, at.to);
  parser.parse(expr).iterate({
    enter(node) {
      const { name, type } = node;
      if (type.isError) throw new Error(`does not parse at ${node.from}: ${expr}`);
      if (name === "VectorSelector") selectors.push({ metric: "", matchers: [] });
      if (name === "Identifier" && node.node.parent?.name === "VectorSelector") selectors.at(-1)!.metric = text(node);
      if (name === "UnquotedLabelMatcher") {
        const [label, op, value] = [node.node.firstChild!, node.node.firstChild!.nextSibling!, node.node.lastChild!].map(text) as [string, string, string];
        selectors.at(-1)!.matchers.push({ label, op, value: value.slice(1, -1) });
      }
      if (name === "LabelName" && node.node.parent?.name === "GroupingLabels") groupedBy.push(text(node));
    },
  });
  return { selectors, groupedBy };
}

/** Labels that Prometheus adds to what it scrapes, and values that a node has with them, by metric and label. */
const added = new Map([["job", null], ["instance", null]]);

/** What nodes serve: the values that each label of each metric has. Names of samples, with _bucket, _sum and _count. */
export type Served = Map<string, Map<string, Set<string>>>;

export function servedBy(...texts: readonly string[]): Served {
  const served: Served = new Map([["up", new Map()]]);
  for (const line of texts.flatMap((text) => text.split("\n"))) {
    const [, name, labels = ""] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (name === undefined) {
      // Counters with labels have no sample before they count.
      const declared = /^# TYPE (\S+) /.exec(line)?.[1];
      if (declared !== undefined && !served.has(declared)) served.set(declared, new Map());
      continue;
    }
    const known = served.get(name) ?? new Map<string, Set<string>>();
    served.set(name, known);
    for (const [, label, value] of labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) known.set(label!, (known.get(label!) ?? new Set()).add(value!));
  }
  return served;
}

/** What an expression names that no node serves; empty: nothing. */
export function unserved(expr: string, served: Served): string[] {
  const { selectors, groupedBy } = readExpression(expr);
  const problems = selectors.flatMap(({ metric, matchers }) => {
    const labels = served.get(metric);
    if (labels === undefined) return [`${metric} is no metric`];
    return matchers.flatMap(({ label, op, value }) => {
      if (added.has(label)) return [];
      const values = labels.get(label);
      if (values === undefined) return [`${metric} has no label ${label}`];
      const isServed = op === "=" ? values.has(value) : op === "=~" ? [...values].some((one) => new RegExp(`^(?:${value})$`).test(one)) : true;
      return isServed ? [] : [`${metric} has no ${label}${op}"${value}"`];
    });
  });
  const known = new Set([...added.keys(), ...selectors.flatMap(({ metric }) => [...(served.get(metric)?.keys() ?? [])])]);
  return [...problems, ...groupedBy.filter((label) => !known.has(label)).map((label) => `no label ${label} to group by in ${expr}`)];
}
