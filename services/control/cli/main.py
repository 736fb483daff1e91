"""The program `control-cli`: options, the question to control, output and exit status."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.common.endpoints import DEFAULT_RUN_DIR
from services.common.errors import HopwireError
from services.control.cli.completion import candidates
from services.control.cli.config_verbs import CONFIRMABLE, SAVE
from services.control.cli.files import save, with_contents, without_router
from services.control.cli.grammar import Request, parse, usage_lines, usage_of
from services.control.cli.insight_verbs import CAPTURE, TRACE
from services.control.cli.looks import Look
from services.control.cli.probe import PROBE, has_answered, watch_probe
from services.control.cli.router import (
    CONNECT_VARIABLE,
    KEY_VARIABLE,
    RUN_DIR_VARIABLE,
    SERVER_KEY_VARIABLE,
    NoRouterError,
    Place,
    RefusedError,
    Remote,
    ask,
)
from services.control.cli.streams import Stream, check_stream, show_frames
from services.control.cli.tables import as_terminal_text, as_text
from services.control.cli.verb import HELP
from services.control.cli.vocabulary import MONITOR, TOP, VERSION
from services.control.cli.words import UsageError

PROGRAM: Final = "control-cli"
TIMEOUT_S: Final = 5.0
_COMPLETION_TIMEOUT_S: Final = 0.5

WATCH: Final = "--watch"
DEFAULT_WATCH_S: Final = 2.0  # as watch(1)
TOP_INTERVAL_S: Final = 1.0
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", re.ASCII)

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NO_ROUTER: Final = 3
EXIT_STATUSES: Final = {
    DONE: "done",
    REFUSED: "refused, by the kernel or by the router: its phrase, and what to do",
    USAGE: "wrong usage: the word that does not fit, what was expected, and the usage line",
    NO_ROUTER: "no router there: the run directory that was tried, and why",
}
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
        return self.write(as_terminal_text(sections, sys.stdout) if self.on_terminal else as_text(sections))

    @property
    def on_terminal(self) -> bool:
        """Whether a person sees it."""
        return sys.stdout is not None and sys.stdout.isatty()

    def watch(self, look: Look, method: str, interval_s: float) -> int:
        """Show a method's result again and again, until the reader ends it or goes away."""
        from services.control.cli.live import watch, watch_on_screen  # noqa: PLC0415
        from services.control.cli.views import DETAILED_VIEWS, VIEWS  # noqa: PLC0415

        if self.as_json or not self.on_terminal:
            between = iter([""])
            separator = "" if self.as_json else "\n"
            return watch(lambda: self.write(next(between, separator)) or self.show(method, look()), interval_s)
        view = (self.detailed and DETAILED_VIEWS.get(method)) or VIEWS[method]
        watch_on_screen(lambda: view(look()), interval_s)
        return DONE

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


_Confirm = Annotated[
    float | None,
    typer.Option(
        min=1,
        max=86_400,
        metavar="SECONDS",
        help="With config apply and rollback: go back after so many seconds unless config confirm comes first.",
    ),
]
_Connect = Annotated[
    str | None,
    typer.Option(
        envvar=CONNECT_VARIABLE,
        metavar="ENDPOINT",
        help="A router on another machine, such as tcp://192.0.2.1:7010, instead of a run directory.",
    ),
]
_ServerKey = Annotated[
    str | None,
    typer.Option(envvar=SERVER_KEY_VARIABLE, metavar="KEY", help="That router's public key, or the file that has it."),
]
_Key = Annotated[
    Path | None,
    typer.Option(envvar=KEY_VARIABLE, metavar="FILE", help="Our own keys, as control-cli keygen writes them."),
]


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
        Path, typer.Option(envvar=RUN_DIR_VARIABLE, metavar="DIR", help="The router's run directory.")
    ] = DEFAULT_RUN_DIR,
    timeout: Annotated[
        float, typer.Option(min=0.01, max=3600, metavar="SECONDS", help="Seconds to wait for the router's answer.")
    ] = TIMEOUT_S,
    confirm: _Confirm = None,
    connect: _Connect = None,
    server_key: _ServerKey = None,
    key: _Key = None,
    watch: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=86_400, metavar="[SECONDS]", help=f"Show again every so many seconds ({DEFAULT_WATCH_S:g})."
        ),
    ] = None,
    write: Annotated[
        str | None, typer.Option("-w", "--write", metavar="FILE", help="Where capture writes to; - is standard output.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("-c", "--count", min=1, metavar="COUNT", help="capture, trace: the number of frames."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("-V", "-Version", "--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    output = _Output(as_json or pretty, _INDENT if pretty else None, details)
    options = _Options(run_dir, connect, server_key, key, timeout, watch, confirm)
    raise typer.Exit(_run(words or [], options, output, Stream(write, count)))


@dataclass(frozen=True)
class _Options:
    """What was given beside the words."""

    run_dir: Path
    connect: str | None
    server_key: str | None
    key_file: Path | None
    timeout_s: float
    watch_s: float | None
    confirm_s: float | None

    @property
    def place(self) -> Place:
        """Where the router is.

        :raises UsageError: an endpoint without keys.
        """
        if not self.connect:
            return self.run_dir
        if not self.server_key or self.key_file is None:
            problem = f"it needs --server-key and --key (or {SERVER_KEY_VARIABLE} and {KEY_VARIABLE})"
            raise UsageError("", "--connect", problem, "--connect ENDPOINT --server-key KEY --key FILE OBJECT ...")
        return Remote(self.connect, self.server_key, self.key_file)


def _run(tokens: Sequence[str], options: _Options, output: _Output, stream: Stream) -> int:
    """Do what a command line asks for and return the exit status."""
    request: Request | None = None
    try:
        request = _with_confirmation(parse(tokens), options.confirm_s)
        if options.watch_s is not None:
            _check_watchable(request)
        check_stream(request, stream)
        if request.method == HELP:
            return output.write(_help(request))
        if request.method == VERSION:
            return output.show(VERSION, {"version": version()})
        if (result := without_router(request)) is not None:
            return output.show(request.method, result)
        if request.method in (CAPTURE, TRACE):
            return _show_frames(request, options, output, stream)
        return _ask_and_show(request, options, output)
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


def _ask_and_show(request: Request, options: _Options, output: _Output) -> int:
    method, place = request.method, options.place
    timeout_s, watch_s = options.timeout_s, options.watch_s
    if method == MONITOR:
        from services.control.cli.monitor import monitor  # noqa: PLC0415

        if isinstance(place, Remote):
            raise UsageError("", method, "the changes are not published to other machines", usage_of(method))
        run_dir = place
        return _until_interrupt(lambda: monitor(run_dir, request.params, timeout_s, output.as_json, output.write))
    look = Look(lambda question: ask(place, question, timeout_s), with_contents(request))
    if method == TOP and watch_s is None and output.on_terminal and not output.as_json:
        watch_s = TOP_INTERVAL_S
    if watch_s is not None:
        interval_s = watch_s
        return _until_interrupt(lambda: output.watch(look, method, interval_s))
    result = look()
    while method == FLUSH and result["more"]:  # control removes so many at one go
        result = look()
    if method == PROBE:
        return _show_probed(watch_probe(place, request, timeout_s), request, output)
    if method == SAVE and "file" in request.params:
        save(Path(request.params["file"]), result["text"])
    return output.show(method, result)


def _show_frames(request: Request, options: _Options, output: _Output, stream: Stream) -> int:
    if options.connect:
        problem = f"{request.method} reads files of the run directory"
        raise UsageError("", "--connect", problem, usage_of(request.method))
    run_dir, timeout_s = options.run_dir, options.timeout_s

    def question(request: Request) -> Any:
        return ask(run_dir, request, timeout_s)

    return show_frames(run_dir, request, timeout_s, question, stream, as_json=output.as_json, write=output.write)


def _until_interrupt(action: Callable[[], int]) -> int:
    """Return an action's exit status; Ctrl-C is how a person ends what has no end."""
    try:
        return action()
    except KeyboardInterrupt:
        return DONE


def _with_confirmation(request: Request, confirm_s: float | None) -> Request:
    if confirm_s is None:
        return request
    if request.method not in CONFIRMABLE:
        usage = "config apply FILE --confirm SECONDS"
        raise UsageError("", "--confirm", "only config apply and config rollback go back by themselves", usage)
    return Request(request.method, {**request.params, "confirm_s": confirm_s})


def _check_watchable(request: Request) -> None:
    from services.control.cli.views import CHANGING, VIEWS  # noqa: PLC0415 - not for help or wrong usage

    if request.method not in VIEWS or request.method in (*CHANGING, VERSION):
        usage = "OBJECT [VERB] ..." if request.method == HELP else usage_of(request.method)
        raise UsageError("", "--watch", "only what shows the router can be shown again and again", usage)


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


def with_interval(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which `--watch`, whose seconds may be left out, has them."""
    given = list(arguments)
    for place, argument in enumerate(given):
        if argument == "--":
            break
        if argument == WATCH:
            following = given[place + 1 : place + 2]
            has_seconds = bool(following) and _SECONDS.fullmatch(following[0]) is not None
            given[place : place + 1 + has_seconds] = [f"{WATCH}={following[0] if has_seconds else DEFAULT_WATCH_S}"]
    return given


def main() -> None:
    """Run the program; it ends with its exit status."""
    app(prog_name=PROGRAM, args=with_interval(sys.argv[1:]))
