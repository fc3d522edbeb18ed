"""What the dashboards are put together from: variables, queries and panels, in Grafana's own types."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG: Final = "pretune"

Limits = tuple[float, float] | None
"""Values from which on something is worth a look, and bad: the second is larger where more is worse, else smaller."""


class Query(NamedTuple):
    """One PromQL expression of a panel."""

    expr: str
    legend: str
    """Name of its series, with labels as {{label}}."""
    min_step: str = ""
    """Time between scrapes, where it is longer than that of the data source: a rate needs several of them."""


def figure(title: str, description: str, unit: str, expr: str, limits: Limits = None) -> Stat:
    """The present value of a query, large, with its course behind it."""
    panel = Stat().title(title).description(description).unit(unit).datasource(SOURCE).span(4).height(4)
    panel.with_target(_target(0, Query(expr, title))).thresholds(_thresholds(limits))
    panel.reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(common.BigValueColorMode.VALUE if limits else common.BigValueColorMode.NONE)
    return panel.graph_mode(common.BigValueGraphMode.AREA)


def curve(
    title: str, description: str, unit: str, *queries: Query, limits: Limits = None, stacked: bool = False
) -> TimeSeries:
    """Queries over time; `limits` are drawn as lines."""
    panel = TimeSeries().title(title).description(description).unit(unit).datasource(SOURCE).span(8).height(8)
    for number, query in enumerate(queries):
        panel.with_target(_target(number, query))
    panel.thresholds(_thresholds(limits)).show_points(common.VisibilityMode.NEVER)
    lines = common.GraphThresholdsStyleMode.DASHED if limits else common.GraphThresholdsStyleMode.OFF
    panel.thresholds_style(options.GraphThresholdsStyleConfig().mode(lines))
    panel.tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    panel.legend(
        options.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    if stacked:
        panel.stacking(options.StackingConfig().mode(common.StackingMode.NORMAL)).fill_opacity(40)
    return panel


def variable(name: str, label: str, metric: str, of: str, several: bool = True) -> build.QueryVariable:
    """A choice among the values of the label `of` on a metric, narrowed by the choices before it."""
    asked: dict[str, object] = {"query": f"label_values({metric}, {of})", "refId": f"Variable-{name}"}
    made = build.QueryVariable(name).label(label).datasource(SOURCE).query(asked)
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    if several:
        made.multi(True).include_all(True).all_value(".*").current(models.VariableOption(text="All", value="$__all"))
    return made


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Iterable[build.QueryVariable],
    rows: dict[str, Iterable[Builder[models.Panel]]],
    annotations: Iterable[build.AnnotationQuery] = (),
) -> models.Dashboard:
    """A dashboard with its rows of panels, each panel with an id by its place, linked to the others."""
    made = build.Dashboard(title).uid(uid).description(description).tags([_TAG]).timezone("browser")
    made.time("now-6h", "now").refresh("30s").tooltip(models.DashboardCursorSync.CROSSHAIR).readonly()
    made.with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for choice in variables:
        made.with_variable(choice)
    for annotation in annotations:
        made.annotation(annotation)
    for name, panels in rows.items():
        made.with_row(build.Row(name))
        for panel in panels:
            made.with_panel(panel)
    link = build.DashboardLink("Pretune").type(models.DashboardLinkType.DASHBOARDS).tags([_TAG])
    made.link(link.include_vars(True).keep_time(True))
    return _numbered(made.build())


def marks(name: str, expr: str) -> build.AnnotationQuery:
    """A mark on all curves, wherever `expr` has a value above 0."""
    return build.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color("purple").expr(expr)


def _target(number: int, query: Query) -> Dataquery:
    name = chr(ord("A") + number)
    made = Dataquery().expr(query.expr).legend_format(query.legend).ref_id(name).range().datasource(SOURCE)
    return made.interval(query.min_step) if query.min_step else made


def _thresholds(limits: Limits) -> build.ThresholdsConfig:
    steps = [models.Threshold(None, "green")]
    if limits is not None:
        look, bad = limits
        if look < bad:
            steps += [models.Threshold(look, "yellow"), models.Threshold(bad, "red")]
        else:
            steps = [models.Threshold(None, "red"), models.Threshold(bad, "yellow"), models.Threshold(look, "green")]
    return build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _numbered(made: models.Dashboard) -> models.Dashboard:
    for number, panel in enumerate(made.panels or [], start=1):
        panel.id_val = number
    return made
