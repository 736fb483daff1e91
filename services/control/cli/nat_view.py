"""What people see of address translation: rules, the table's fill, sessions. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from services.control.cli.tables import Column, Section, table

Result = Mapping[str, Any]

_RULE_COLUMNS: Final = (
    Column("RULE", "kind"),
    Column("WHAT", "what"),
    Column("TO", "to", optional=True),
    Column("FROM", "origin"),
)
_STATE_COLUMNS: Final = (Column("SESSIONS", "state"), Column("COUNT", "count", right=True))
_PORT_COLUMNS: Final = (
    Column("PORTS IN USE", "address"),
    Column("TCP", "tcp", right=True),
    Column("UDP", "udp", right=True),
    Column("ICMP", "icmp", right=True),
)
_SESSION_COLUMNS: Final = (
    Column("STATE", "state"),
    Column("FROM", "source"),
    Column("TO", "destination"),
    Column("LEAVES AS", "outside"),
    Column("GOES TO", "target"),
    Column("AGE", "age", right=True),
    Column("ENDS IN", "expires", right=True),
    Column("PACKETS", "packets", right=True),
    Column("BYTES", "bytes", right=True),
)


def _rules(rules: Iterable[Result]) -> Iterator[Result]:
    for rule in rules:
        origin = "configuration" if rule["configured"] else "nat add"
        match rule["kind"]:
            case "masquerade":
                what = " ".join(["out of", rule["interface"], *rule["addresses"]])
                to = " ".join(["from", *rule["inside"]]) if rule["inside"] else None
            case "forward":
                last = f"-{rule['last_port']}" if "last_port" in rule else ""
                what = f"{rule['protocol']} {rule['address']}:{rule['port']}{last}"
                to = f"{rule['to']}:{rule.get('to_port', rule['port'])}"
            case _:
                what, to = rule["outside"], rule["inside"]
        yield {"kind": rule["kind"], "what": what, "to": to, "origin": origin}


def _sessions(sessions: Iterable[Result]) -> Iterator[Result]:
    for session in sessions:
        original, reply = session["original"], session["reply"]
        yield {
            "state": session["state"],
            "source": f"{original['src']}:{original['sport']}",
            "destination": f"{original['dst']}:{original['dport']}",
            "outside": f"{reply['dst']}:{reply['dport']}",
            "target": f"{reply['src']}:{reply['sport']}",
            "age": f"{session['age_s']:.0f} s",
            "expires": f"{session['expires_s']:.0f} s",
            "packets": f"{session['packets'][0]}/{session['packets'][1]}",
            "bytes": f"{session['bytes'][0]}/{session['bytes'][1]}",
        }


def sessions(result: Result) -> list[Section]:
    """Return a page of sessions."""
    shown: list[Section] = [table(_SESSION_COLUMNS, _sessions(result["sessions"]))]
    if result["next"]:
        shown.append(table((Column("MORE", "more"),), [{"more": f"nat sessions first {result['next']}"}]))
    return shown


def overview(result: Result) -> list[Section]:
    """Return rules, the table's fill, and the first sessions."""
    held = result["table"]
    counts = [{"state": state, "count": count} for state, count in held["states"].items()]
    counts.append({"state": "of at most", "count": held["capacity"]})
    problems: list[Section] = [table((Column("WAITING", "rule"),), [{"rule": text} for text in held["problems"]])]
    return [
        table(_RULE_COLUMNS, _rules(result["rules"])),
        *(problems if held["problems"] else []),
        table(_STATE_COLUMNS, counts),
        table(_PORT_COLUMNS, held["ports"]),
        *sessions(result),
    ]
