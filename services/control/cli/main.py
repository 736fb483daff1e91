"""The program `control-cli`: options, the question to control, output and exit status."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.common.endpoints import DEFAULT_RUN_DIR
from services.common.errors import HopwireError
from services.control.cli.completion import candidates
from services.control.cli.grammar import Request, parse, usage_lines, usage_of
from services.control.cli.probe import PROBE, has_answered, watch_probe
from services.control.cli.router import RUN_DIR_VARIABLE, NoRouterError, RefusedError, ask
from services.control.cli.tables import as_terminal_text, as_text
from services.control.cli.verb import HELP
from services.control.cli.vocabulary import VERSION
from services.control.cli.words import UsageError

PROGRAM: Final = "control-cli"
TIMEOUT_S: Final = 5.0
_COMPLETION_TIMEOUT_S: Final = 0.5

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NO_ROUTER: Final = 3
_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE: what a shell reports of `ip` in the same place

_EPILOG: Final = "\n".join(
    [
        "\b",
        "Verbs, with iproute2's abbreviations:",
        *(f"  {PROGRAM} {line}" for line in usage_lines()),
        "",
        "\b",
        f"Exit status: {DONE} done, {REFUSED} refused, {USAGE} wrong usage, {NO_ROUTER} no router there.",
    ]
)

FLUSH: Final = "route.flush"
_ONE_IN_A_LIST: Final = ("route.get",)  # `ip -j` puts a single result into a list
_INDENT: Final = 4  # as `ip -p`


@dataclass(frozen=True)
class _Output:
    """The form that was asked for, on standard output."""

    as_json: bool
    indent: int | None
    detailed: bool

    def show(self, method: str, result: Any) -> int:
        """Write a method's result and return the exit status. As with `ip`, what only changes something is silent."""
        from services.control.cli.views import DETAILED_VIEWS, VIEWS  # noqa: PLC0415 - not for help or wrong usage

        view = (self.detailed and DETAILED_VIEWS.get(method)) or VIEWS.get(method)
        if view is None:
            return DONE
        if self.as_json:
            return self.write(self._json([result] if method in _ONE_IN_A_LIST else result))
        sections = view(result)
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        return self.write(as_terminal_text(sections, sys.stdout) if on_terminal else as_text(sections))

    def _json(self, result: Any) -> str:
        return dumps(result, indent=self.indent, separators=None if self.indent else (",", ":")) + "\n"

    @staticmethod
    def write(text: str) -> int:
        """Write text and return the exit status; a reader that has gone (`| head`) ends the program quietly.

        :raises HopwireError: standard output is closed or full.
        """
        if sys.stdout is None:
            raise HopwireError("cannot write: standard output is closed; redirect it to a file or to /dev/null")
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            # the interpreter flushes what is left when it ends: let that go nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                return _BROKEN_PIPE
            raise HopwireError(f"cannot write to standard output: {error.strerror}") from error
        return DONE


app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def version() -> str:
    """Return the version of hopwire that is installed here; `source` where it runs from a source tree."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415 - only who asks pays for it
    from importlib.metadata import version as installed_version  # noqa: PLC0415

    try:
        return installed_version("hopwire")
    except PackageNotFoundError:
        return "source"


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"{PROGRAM} (hopwire) {version()}")
        raise typer.Exit(DONE)


def _complete(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """Return the words that may stand where the cursor is."""
    words, interfaces = candidates(context.params.get("words") or [])
    if interfaces:
        run_dir = Path(context.params.get("run_dir") or DEFAULT_RUN_DIR)
        try:
            links = ask(run_dir, Request("link.show", {}), _COMPLETION_TIMEOUT_S)
        except HopwireError:  # a completion that cannot ask offers the words it knows
            links = []
        words = [*(link["ifname"] for link in links), *words]
    return words


@app.command(help="Show and change what a hopwire router does, in ip's grammar.", epilog=_EPILOG)
def _command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="OBJECT [VERB [WORD...]]", autocompletion=_complete, show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("-j", "-json", "--json", help="JSON with the keys of `ip -j`.")] = False,
    pretty: Annotated[bool, typer.Option("-p", "-pretty", "--pretty", help="JSON, indented.")] = False,
    details: Annotated[
        bool, typer.Option("-d", "-details", "--details", help="More: the policy of interfaces.")
    ] = False,
    run_dir: Annotated[
        Path, typer.Option(envvar=RUN_DIR_VARIABLE, help="The router's run directory.")
    ] = DEFAULT_RUN_DIR,
    timeout: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Seconds to wait for the router's answer.")
    ] = TIMEOUT_S,
    _version: Annotated[
        bool,
        typer.Option("-V", "-Version", "--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    output = _Output(as_json or pretty, _INDENT if pretty else None, details)
    raise typer.Exit(_run(words or [], run_dir, timeout, output))


def _run(tokens: Sequence[str], run_dir: Path, timeout_s: float, output: _Output) -> int:
    """Do what a command line asks for and return the exit status."""
    request: Request | None = None
    try:
        request = parse(tokens)
        if request.method == HELP:
            return output.write(_help(request))
        if request.method == VERSION:
            return output.show(VERSION, {"version": version()})
        result = ask(run_dir, request, timeout_s)
        while request.method == FLUSH and result.get("more"):  # control removes so many at one go
            result = ask(run_dir, request, timeout_s)
        if request.method == PROBE:
            return _show_probed(watch_probe(run_dir, request, timeout_s), request, output)
        return output.show(request.method, result)
    except UsageError as error:
        return _complain(error, USAGE, error.usage)
    except NoRouterError as error:
        return _complain(error, NO_ROUTER)
    except RefusedError as error:
        if error.code == "usage" and request is not None:
            return _complain(error, USAGE, usage_of(request.method))
        return _complain(error, REFUSED)
    except HopwireError as error:
        return _complain(error, REFUSED)


def _show_probed(neighbour: Mapping[str, Any] | None, request: Request, output: _Output) -> int:
    """Show what came of a probe and return the exit status: whether the neighbour answered."""
    status = output.show(request.method, [] if neighbour is None else [neighbour])
    if status != DONE or (neighbour is not None and has_answered(neighbour)):
        return status
    return _complain(HopwireError(f"{request.params['dst']} dev {request.params['dev']}: no answer"), REFUSED)


def _help(request: Request) -> str:
    return "".join(f"{PROGRAM} {line}\n" for line in usage_lines(request.params.get("object")))


def _complain(error: HopwireError, status: int, usage: str | None = None) -> int:
    print(f"{PROGRAM}: {error.message}", file=sys.stderr)
    if usage is not None:
        print(f"usage: {PROGRAM} {usage}", file=sys.stderr)
    return status


def main() -> None:
    """Run the program; it ends with its exit status."""
    app(prog_name=PROGRAM)
