/** What a board is made of: rows of panels, each with one unit and a few expressions. */
import { BigValueColorMode, GraphDrawStyle, LegendDisplayMode, LegendPlacement, StackingMode, TooltipDisplayMode, VizLegendOptionsBuilder, VizTooltipOptionsBuilder, StackingConfigBuilder, ReduceDataOptionsBuilder } from "@grafana/grafana-foundation-sdk/common";
import { DashboardBuilder, DashboardCursorSync, DatasourceVariableBuilder, QueryVariableBuilder, RowBuilder, VariableRefresh, VariableSort } from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** Legend and expression. */
export type Line = readonly [legend: string, expr: string];

export interface Panel {
  readonly title: string;
  /** How to read it. */
  readonly says: string;
  /** Grafana's name of the unit: short, s, bytes, percentunit, ops, cps. */
  readonly unit: string;
  readonly lines: readonly Line[];
  readonly stacked?: boolean;
  /** One number in place of a graph. */
  readonly stat?: boolean;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

export interface Board {
  readonly uid: string;
  readonly title: string;
  readonly says: string;
  /** Whether a node is chosen at the top: `$instance`. */
  readonly ofOneNode: boolean;
  readonly rows: readonly Row[];
}

const datasource = { type: "prometheus", uid: "${datasource}" };
const columns = 24;
const graphHeight = 8;
const statHeight = 4;

export function built(board: Board): object {
  const builder = new DashboardBuilder(board.title)
    .uid(board.uid)
    .description(board.says)
    .tags(["flux-gateway"])
    .time({ from: "now-1h", to: "now" })
    .refresh("30s")
    .timezone("browser")
    .tooltip(DashboardCursorSync.Crosshair)
    .readonly()
    .withVariable(new DatasourceVariableBuilder("datasource").label("Prometheus").type("prometheus"))
    .withVariable(choice("job", "Job", "label_values(flux_info, job)"));
  if (board.ofOneNode) builder.withVariable(choice("instance", "Node", 'label_values(flux_info{job="$job"}, instance)'));
  for (const row of board.rows) {
    builder.withRow(new RowBuilder(row.title));
    for (const panel of row.panels) builder.withPanel(panel.stat === true ? stat(panel) : graph(panel, row.panels.length));
  }
  return builder.build();
}

function choice(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name).label(label).datasource(datasource).query(query).refresh(VariableRefresh.OnTimeRangeChanged).sort(VariableSort.AlphabeticalAsc);
}

function graph({ title, says, unit, lines, stacked = false }: Panel, inRow: number): TimeseriesBuilder {
  const panel = new TimeseriesBuilder()
    .title(title)
    .description(says)
    .datasource(datasource)
    .unit(unit)
    .min(0)
    .height(graphHeight)
    .span(columns / Math.min(3, Math.max(2, inRow)))
    .drawStyle(GraphDrawStyle.Line)
    .lineWidth(1)
    .fillOpacity(stacked ? 40 : 10)
    .legend(new VizLegendOptionsBuilder().displayMode(LegendDisplayMode.List).placement(LegendPlacement.Bottom).showLegend(true))
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi));
  if (stacked) panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group("A"));
  lines.forEach(([legend, expr], i) => panel.withTarget(query(expr, legend, i)));
  return panel;
}

function stat({ title, says, unit, lines }: Panel): StatBuilder {
  const panel = new StatBuilder()
    .title(title)
    .description(says)
    .datasource(datasource)
    .unit(unit)
    .height(statHeight)
    .span(columns / 6)
    .colorMode(BigValueColorMode.None)
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]));
  lines.forEach(([legend, expr], i) => panel.withTarget(query(expr, legend, i)));
  return panel;
}

function query(expr: string, legend: string, i: number): DataqueryBuilder {
  return new DataqueryBuilder().refId(String.fromCharCode(65 + i)).datasource(datasource).expr(expr).legendFormat(legend);
}
