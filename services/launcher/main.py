"""The program `hopwire`. Commands import what they need when they run, so that `--help` answers at once."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

if TYPE_CHECKING:
    from services.launcher.bench.options import Comparison, Output

app = typer.Typer(
    help="A software router in readable Python.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Namespace = Annotated[
    str | None,
    typer.Option("--netns", metavar="NAME", help="The network namespace, as `ip netns` names it; otherwise this one."),
]
_RunDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the router's services meet; /run/hopwire if not given, and with --netns /run/hopwire-NAME. "
        "control-cli finds the router by the same --run-dir.",
    ),
]


@app.command()
def up(
    netns: _Namespace = None,
    run_dir: _RunDir = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Configuration; without it the kernel's routes are followed.")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error; info if neither this nor FILE says so."),
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(metavar="ADDR:PORT", help="Where control serves its metrics to Prometheus.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORM", help="json, text, or auto: text on a terminal, JSON elsewhere.")
    ] = None,
) -> int:
    """Route between all Ethernet interfaces of a network namespace, until Ctrl-C."""
    from services.launcher.up.run import run_up
    from services.launcher.up.settings import Settings

    return _to_exit(lambda: run_up(Settings(netns, run_dir, config, log_level, metrics_listen, log_format)))


@app.command()
def lab(topology: Annotated[str, typer.Argument(help="pair, three-routers, ospf-ring, or bgp-ecmp.")] = "pair") -> int:
    """Build hosts and routers in network namespaces, with hopwire in every router, until Ctrl-C."""
    from services.launcher.lab.run import run_lab

    return _to_exit(lambda: run_lab(topology))


@app.command()
def demo() -> int:
    """Show hopwire at work between two hosts in network namespaces, and take all down again."""
    from services.launcher.demo import run_demo

    return _to_exit(run_demo)


@app.command()
def bench(
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="The length of each measurement.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often everything is measured in turn.")] = 3,
    interfaces: Annotated[
        int, typer.Option(min=1, max=16, metavar="N", help="From how many hosts, each on its own link, traffic comes.")
    ] = 1,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|synthetic",
            help="With a table of the Internet's size: a file with one prefix a line, or a made one.",
        ),
    ] = None,
    loss_free: Annotated[
        bool, typer.Option("--loss-free", help="Search for the highest rate without loss, too (RFC 2544 section 26.1).")
    ] = False,
    trial_seconds: Annotated[
        float | None, typer.Option(min=0.1, max=600, help="With --loss-free: the length of each trial (10).")
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure round-trip times at 10, 50 and 90 % load, too.")
    ] = False,
    full_table: Annotated[
        bool, typer.Option("--full-table", help="Measure how changes of such a table come through, instead.")
    ] = False,
    prefixes: Annotated[
        Path | None, typer.Option(help="With --full-table: a file with one prefix a line, in place of a made table.")
    ] = None,
    floods: Annotated[
        bool, typer.Option("--floods", help="Measure what floods of exceptions leave of the fast path, instead.")
    ] = False,
    nat: Annotated[bool, typer.Option("--nat", help="Measure what address translation costs, instead.")] = False,
    observed: Annotated[
        bool, typer.Option("--observed", help="Measure what observers leave of the 60-byte rate, instead.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON to a file, too.")] = None,
) -> int:
    """Measure the kernel's forwarding and hopwire's on the same topology, in turn."""
    from services.launcher.bench import options

    comparison = options.Comparison(seconds, rounds, interfaces, table, loss_free, trial_seconds, latency)
    others = {"full-table": full_table, "floods": floods, "nat": nat, "observed": observed}
    instead = [name for name, chosen in others.items() if chosen]
    if problem := options.problem(comparison, instead, has_prefixes=prefixes is not None):
        raise typer.BadParameter(problem)
    return _to_exit(lambda: _measure(comparison, instead, prefixes, options.Output(json, output)))


def _measure(comparison: "Comparison", instead: list[str], prefixes: Path | None, output: "Output") -> int:
    """Run the comparison with the kernel, or what is measured instead of it."""
    seconds, rounds = comparison.seconds, comparison.rounds
    match instead:
        case ["full-table"]:
            from services.launcher.bench.full_table import run_full_table

            return run_full_table(seconds=seconds, prefixes=prefixes, output=output)
        case ["floods"]:
            from services.launcher.bench.floods import run_floods

            return run_floods(seconds=seconds, rounds=rounds, output=output)
        case ["nat"]:
            from services.launcher.bench.nat import run_nat

            return run_nat(seconds=seconds, rounds=rounds, output=output)
        case ["observed"]:
            from services.launcher.bench.observed import run_observed

            return run_observed(seconds=seconds, rounds=rounds, output=output)
        case _:
            from services.launcher.bench.command import run_bench

            return run_bench(comparison, output)


@app.command()
def doctor(netns: _Namespace = None, run_dir: _RunDir = None) -> int:
    """Check a network namespace: what is wrong for hopwire, and how to mend it. Exit status 0 if nothing is."""
    from services.launcher.doctor.run import run_doctor

    return _to_exit(lambda: run_doctor(netns, run_dir))


@app.command("version")
def show_version() -> None:
    """Print the version."""
    try:
        print(f"hopwire {version('hopwire')}")
    except PackageNotFoundError:
        print("hopwire, run from a folder that is not installed")


def _to_exit(command: Callable[[], int | None]) -> int:
    from services.common.runtime import run_to_exit

    return run_to_exit("hopwire", command)


def main() -> None:
    """Run the command line; exit status 1 for an error that one line explains, 2 for a wrong command line."""
    try:
        status = app(prog_name="hopwire", standalone_mode=False)
    except TyperException as error:
        print(f"hopwire: {error.format_message().rstrip('.')}; see: hopwire --help", file=sys.stderr)
        status = error.exit_code
    sys.exit(status)
