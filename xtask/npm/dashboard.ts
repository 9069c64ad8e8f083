// What Grafana's own types (@grafana/schema) ask of a dashboard. Its type of a panel leaves open what only the kind of panel knows:
// here each kind in use brings its options from the same package. Of Prometheus' queries and annotations the package says nothing
// but what all data sources share; the rest is added here.

import type {
  AnnotationQuery,
  Dashboard as AnyDashboard,
  DataQuery,
  DataSourceRef,
  FieldConfig,
  Panel as AnyPanel,
  RowPanel,
  VariableModel,
} from '@grafana/schema';
import type * as BarGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as Heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as StateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

interface PrometheusQuery extends Omit<DataQuery, 'datasource'> {
  datasource: DataSourceRef;
  editorMode: 'code';
  expr: string;
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  legendFormat: string;
  range: boolean;
}

interface PrometheusAnnotation extends Omit<AnnotationQuery, 'target' | 'datasource'> {
  datasource: DataSourceRef;
  expr: string;
  step: string;
  textFormat: string;
  titleFormat: string;
}

interface PanelOf<Type extends string, Options, Custom>
  extends Omit<AnyPanel, 'datasource' | 'type' | 'options' | 'fieldConfig' | 'targets'> {
  datasource: DataSourceRef;
  type: Type;
  options: Options;
  fieldConfig: {
    defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom };
    overrides: NonNullable<AnyPanel['fieldConfig']>['overrides'];
  };
  targets: PrometheusQuery[];
}

type AnyOfOurs =
  | PanelOf<'bargauge', BarGauge.Options, never>
  | PanelOf<'heatmap', Heatmap.Options, Heatmap.FieldConfig>
  | PanelOf<'stat', Stat.Options, never>
  | PanelOf<'state-timeline', StateTimeline.Options, StateTimeline.FieldConfig>
  | PanelOf<'table', Table.Options, Partial<Table.FieldConfig>>
  | PanelOf<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>;

interface Variable extends Omit<VariableModel, 'datasource'> {
  datasource?: DataSourceRef;
}

// Rows are never folded here, so that their panels stand beside them.
interface Row extends Omit<RowPanel, 'datasource' | 'panels'> {
  panels: [];
}

export interface Dashboard extends Omit<AnyDashboard, 'panels' | 'annotations' | 'templating'> {
  annotations: { list: PrometheusAnnotation[] };
  panels: Array<AnyOfOurs | Row>;
  templating: { list: Variable[] };
}
