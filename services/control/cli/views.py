"""What people see of a result: the columns that `ip` shows, as tables. Pure.

Results have the keys of `ip -j`; docs/control-cli.md says which keys are hopwire's own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from time import gmtime, strftime
from typing import Any, Final

from services.control.cli import nat_view
from services.control.cli.counter_view import counters
from services.control.cli.figure_views import drops, fib, traffic
from services.control.cli.insight_verbs import reason_word
from services.control.cli.tables import Column, Section, table

Result = Mapping[str, Any]

_DESTINATION: Final = Column("DESTINATION", "dst")
_TYPE: Final = Column("TYPE", "type", optional=True)
_DEV: Final = Column("DEV", "dev")
_SOURCE: Final = Column("SRC", "prefsrc", optional=True)
_MTU: Final = Column("MTU", "mtu", right=True)
_INDEX: Final = Column("INDEX", "ifindex", right=True)
_NAME: Final = Column("NAME", "ifname")
_STATE: Final = Column("STATE", "operstate")
_MAC: Final = Column("MAC", "address")

_ROUTE_COLUMNS: Final = (
    Column("TABLE", "table", optional=True),
    _DESTINATION,
    Column("TOS", "tos", optional=True),
    _TYPE,
    Column("VIA", "gateway"),
    _DEV,
    Column("WEIGHT", "weight", right=True, optional=True),
    Column("PROTO", "protocol"),
    Column("SCOPE", "scope"),
    _SOURCE,
    Column("METRIC", "metric", right=True, optional=True),
    Column("MTU", "mtu", right=True, optional=True),
    Column("FLAGS", "flags", optional=True),
)
_ROUTE_GET_COLUMNS: Final = (
    _DESTINATION,
    _TYPE,
    Column("FROM", "from", optional=True),
    Column("IIF", "iif", optional=True),
    Column("PREFIX", "prefix"),
    Column("VIA", "gateway"),
    _DEV,
    _SOURCE,
    Column("LLADDR", "lladdr"),
    Column("NEIGHBOUR", "neighbour"),
    _MTU,
)
_ADDRESS_COLUMNS: Final = (_INDEX, _NAME, _STATE, _MTU, _MAC, Column("ADDRESS", "local"), Column("SCOPE", "scope"))
_LINK_COLUMNS: Final = (_INDEX, _NAME, _STATE, _MTU, _MAC, Column("FLAGS", "flags"))
_POLICY_COLUMNS: Final = (
    Column("REVERSE-PATH", "reverse_path"),
    Column("MARTIANS", "martians"),
    Column("DIRECTED-BROADCAST", "directed_broadcast"),
    Column("REDIRECTS", "redirects"),
    Column("PROXY-ARP", "proxy_arp"),
)
_NEIGHBOUR_COLUMNS: Final = (
    Column("ADDRESS", "dst"),
    _DEV,
    Column("LLADDR", "lladdr"),
    Column("STATE", "state"),
    Column("AGE", "age", right=True),
    Column("WAITING", "waiting_frames", right=True),
    Column("BYTES", "waiting_bytes", right=True),
)
_LAST_DROPS_COLUMNS: Final = (
    Column("TIME", "time"),
    Column("REASON", "name"),
    Column("INTERFACE", "dev"),
    Column("FRAME", "summary"),
)
_SERVICE_COLUMNS: Final = (
    Column("SERVICE", "service"),
    Column("INSTANCE", "instance"),
    Column("PID", "pid", right=True),
    Column("HEARD", "heard", right=True),
    Column("STATE", "state"),
)
_HISTORY_COLUMNS: Final = (
    Column("N", "steps", right=True),
    Column("APPLIED", "at"),
    Column("FILE", "source"),
    Column("BYTES", "bytes", right=True),
)
_INTERFACE_COLUMNS: Final = (
    Column("INDEX", "index", right=True),
    Column("INTERFACE", "name"),
    Column("STATE", "state"),
    Column("FORWARDS", "forwards"),
    _MTU,
    Column("MAC", "mac"),
    Column("ADDRESSES", "addresses", optional=True),
)


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _words(values: Iterable[str]) -> str | None:
    return ",".join(values) or None


def _continued(first: Result, following: Iterable[Result], columns: Iterable[Column]) -> Iterator[dict[str, Any]]:
    """Yield rows where `following` shares the cells of `first`, which are shown once."""
    blank = {column.key: "" for column in columns}
    lead: Mapping[str, Any] = first
    for row in following:
        yield {**lead, **row}
        lead = blank


def _route_rows(route: Result) -> Iterator[dict[str, Any]]:
    mtu = next((metric["mtu"] for metric in route.get("metrics", []) if "mtu" in metric), None)
    row = {**route, "mtu": mtu, "flags": _words(route.get("flags", []))}
    hops = [
        {**hop, "flags": _words([*route.get("flags", []), *hop.get("flags", [])])} for hop in route.get("nexthops", [])
    ]
    return _continued(row, hops, _ROUTE_COLUMNS) if hops else iter([row])


def _routes(result: Iterable[Result]) -> list[Section]:
    return [table(_ROUTE_COLUMNS, (row for route in result for row in _route_rows(route)))]


def _address_rows(link: Result) -> Iterator[dict[str, Any]]:
    addresses = [
        {"local": f"{address['local']}/{address['prefixlen']}", "scope": address.get("scope")}
        for address in link.get("addr_info", [])
    ]
    return _continued(link, addresses or [{}], _ADDRESS_COLUMNS)


def _addresses(result: Iterable[Result]) -> list[Section]:
    return [table(_ADDRESS_COLUMNS, (row for link in result for row in _address_rows(link)))]


def _links(result: Iterable[Result]) -> list[Section]:
    return [table(_LINK_COLUMNS, ({**link, "flags": _words(link.get("flags", []))} for link in result))]


def _links_and_policies(result: Iterable[Result]) -> list[Section]:
    policies = ({**link, **_switches(link.get("policy", {}))} for link in result)
    rows = ({**link, "flags": _words(link.get("flags", []))} for link in policies)
    return [table((*_LINK_COLUMNS[:-1], *_POLICY_COLUMNS, _LINK_COLUMNS[-1]), rows)]


def _switches(values: Result) -> dict[str, Any]:
    return {key: ("on" if value else "off") if isinstance(value, bool) else value for key, value in values.items()}


def _neighbours(result: Iterable[Result]) -> list[Section]:
    rows = (
        {**neighbour, "state": _words(neighbour["state"]), "age": _seconds(neighbour["age_s"])} for neighbour in result
    )
    return [table(_NEIGHBOUR_COLUMNS, rows)]


def _summary(result: Result) -> str:
    ready = "ready" if result["ready"] else "not ready"
    lines = [f"hopwire {result['version']}: {ready}, state generation {result['generation']}"]
    lines += [f"waits for: {text}" for text in result["waiting_for"]]
    lines += [f"warning: {text}" for text in result["warnings"]]
    return "\n".join(lines)


def _services(result: Result) -> Section:
    services = (
        {
            **service,
            "heard": f"{_seconds(service['age_s'])} ago",
            "state": "down" if not service["up"] else "ready" if service["ready"] else "not ready",
        }
        for service in result["services"]
    )
    return table(_SERVICE_COLUMNS, services)


def _status(result: Result) -> list[Section]:
    interfaces = (
        {
            **interface,
            "state": "up" if interface["up"] else "down",
            "forwards": "yes" if interface["forwarding"] else "no",
            "addresses": _words(interface["addresses"]),
        }
        for interface in result["interfaces"]
    )
    return [_summary(result), _services(result), table(_INTERFACE_COLUMNS, interfaces)]


def _top(result: Result) -> list[Section]:
    happening = [drop for drop in result["drops"] if drop["rate"]]
    return [
        _summary(result),
        *traffic(result["interfaces"]),
        *(drops(happening) if happening else ["nothing is dropped now"]),
        _services(result),
    ]


def _config(result: Result) -> list[Section]:
    return [table((Column("KEY", "key"), Column("VALUE", "value", right=True)), _settings(result))]


def _settings(values: Result, prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield a row for each setting, named as `config set` and the configuration file name it."""
    for key, value in values.items():
        name = f"{prefix}{key}".removeprefix("parameters.")
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{name}.")
        elif not isinstance(value, (Mapping, list)):
            yield {"key": name, "value": value}
        elif value:
            yield {"key": name, "value": ", ".join(map(_setting, value))}


def _setting(value: Any) -> str:
    """Return an item of a list; of a map what it says, in the order in which the file has it."""
    if not isinstance(value, Mapping):
        return str(value)
    return " ".join(f"{key} {inner}" for key, inner in value.items() if inner not in (None, False, []))


def _history(result: Iterable[Result]) -> list[Section]:
    rows = (
        {**one, "at": strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(one["at"])) if one["at"] else None} for one in result
    )
    return [table(_HISTORY_COLUMNS, rows)]


def _last_drops(result: Iterable[Result]) -> list[Section]:
    rows = [
        {
            **one,
            "time": _clock_time(one["time_ns"]),
            "name": reason_word(one["reason"]),
        }
        for one in result
    ]
    return [table(_LAST_DROPS_COLUMNS, rows)] if rows else ["no frame was dropped"]


def _clock_time(time_ns: int) -> str:
    """Return a time of this machine's day to the microsecond, with the date."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone().strftime("%m-%d %H:%M:%S") + (
        f".{time_ns % 1_000_000_000 // 1000:06d}"
    )


def _why(result: Result) -> list[Section]:
    commands = [f"  {command}" for command in result["commands"]]
    change = ["To change it:", *commands] if commands else ["No command changes it."]
    return ["\n".join([*result["sentences"], "", *change])]


VIEWS: Final[Mapping[str, Callable[[Any], list[Section]]]] = {
    "route.show": _routes,
    "route.get": lambda result: [table(_ROUTE_GET_COLUMNS, [result])],
    "addr.show": _addresses,
    "link.show": _links,
    "neigh.show": _neighbours,
    "neigh.probe": _neighbours,
    "nat.show": nat_view.overview,
    "nat.sessions": nat_view.sessions,
    "config.show": _config,
    "config.diff": lambda result: ["\n".join(result)] if result else [],
    "config.history": _history,
    "counters": counters,
    "status": _status,
    "show.drops": drops,
    "drops": _last_drops,
    "why": _why,
    "show.interfaces": traffic,
    "show.fib": fib,
    "top": _top,
    "version": lambda result: [f"control-cli (hopwire) {result['version']}"],
    "keygen": lambda result: [result["public_key"]],
}
"""By method; those that are not here have no result to show."""

CHANGING: Final = frozenset({"neigh.probe", "keygen"})
"""Those that have a view, and yet do something."""

DETAILED_VIEWS: Final[Mapping[str, Callable[[Any], list[Section]]]] = {"link.show": _links_and_policies}
"""Those that show more where details are asked for."""
