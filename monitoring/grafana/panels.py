"""What a dashboard consists of, and Grafana's JSON model of it."""

import json
from typing import Any, Final, NamedTuple

DATA_SOURCE: Final = {"type": "prometheus", "uid": "hopwire-prometheus"}
COLUMNS: Final = 24  # of Grafana's grid
_SCHEMA: Final = 39


class Query(NamedTuple):
    """An expression, and how its series are called."""

    expression: str
    legend: str = ""


class Panel(NamedTuple):
    """One panel."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    stacked: bool = False


class Dashboard(NamedTuple):
    """One dashboard."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _target(query: Query, number: int, kind: str) -> dict[str, Any]:
    return {
        "datasource": DATA_SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "refId": chr(ord("A") + number),
        "range": kind != "table",
        "instant": kind == "table",
        "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "cellGap": 1, "color": {"scheme": "Turbo"}}
    return {"showHeader": True}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    custom = {"fillOpacity": 30 if panel.stacked else 8, "stacking": {"mode": "normal" if panel.stacked else "none"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATA_SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0} | ({"custom": custom} if panel.kind == "timeseries" else {}),
            "overrides": [],
        },
        "options": _options(panel),
        "targets": [_target(query, place, panel.kind) for place, query in enumerate(panel.queries)],
    }


def document(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana's JSON model."""
    panels = []
    x = y = row_height = 0
    for number, panel in enumerate(dashboard.panels, 1):
        if x + panel.width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        panels.append(_panel(panel, number, x, y))
        x += panel.width
        row_height = max(row_height, panel.height)
    links = [{"type": "dashboards", "tags": ["hopwire"], "asDropdown": False, "title": "", "keepTime": True}]
    router = {
        "name": "router",
        "label": "router",
        "type": "query",
        "datasource": DATA_SOURCE,
        "query": {"query": "label_values(hopwire_ready, instance)", "refId": "router"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    return {
        "uid": f"hopwire-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["hopwire"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": links,
        "templating": {"list": [router]},
        "panels": panels,
    }


def text_of(dashboard: Dashboard) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(document(dashboard), indent=2) + "\n"
