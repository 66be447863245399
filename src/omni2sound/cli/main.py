"""`omni2sound`: the table of commands, and how a failure ends the process.

In:   argv.
Out:  an exit code: 0 done, 1 some items failed, 2 bad input, 3 disk or permissions,
      130 interrupted.

Every failure that a user can cause ends in one line on stderr, never in a traceback. An
exception that is neither an `Omni2SoundError` nor an `OSError` is a bug and shows its traceback.
With --json, the failure is printed on stdout as JSON, too.
"""

from __future__ import annotations

import copy
import errno
import functools
import itertools
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from typer.core import TyperGroup

from omni2sound import __version__
from omni2sound.cli import (
    annotate,
    batch,
    data,
    demo,
    doctor,
    edit,
    hand_over,
    mix,
    scenes,
    setup,
    sounds,
)
from omni2sound.cli.bench import commands as bench
from omni2sound.cli.generate import command as generate
from omni2sound.cli.models import convert, export
from omni2sound.cli.options import option_names, set_metavars
from omni2sound.cli.reports import EXIT_ENVIRONMENT, error_report
from omni2sound.cli.streams import guard_streams
from omni2sound.cli.studio import project, serve, try_page
from omni2sound.cli.train import cost, part, recipe
from omni2sound.errors import Omni2SoundError, UserError, rename_fields
from omni2sound.plugins import load_plugins
from omni2sound.redact import shorten

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 128 + signal.SIGTERM


class _Formatter(logging.Formatter):
    """Messages that name the options of the command that runs instead of fields."""

    names: ClassVar[Mapping[str, str]] = {}

    def formatMessage(self, record: logging.LogRecord) -> str:
        # One record is one line, whatever a name in it holds; a traceback follows below.
        record.message = " ".join(record.message.splitlines())
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return rename_fields(super().format(record), self.names)


class _Handler(logging.StreamHandler[Any]):
    """Writes to what stderr is at the time: a bar puts a stream of its own there."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Group(TyperGroup):
    """The root of the program; what passes it names options instead of fields."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in self.commands.values():
            _name_options(command)

    def make_context(self, *values: Any, **named_values: Any) -> Any:
        """Parse; what is wrong with the arguments is printed as JSON, too, if asked for."""
        with _usage_as_json():
            return super().make_context(*values, **named_values)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, whose own arguments are parsed here."""
        with _usage_as_json():
            return super().invoke(ctx)


@contextmanager
def _usage_as_json() -> Iterator[None]:
    """Add hints to errors of usage, and print them as JSON if asked for."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and not getattr(error, "hinted", False):
            error.hinted = True  # type: ignore[attr-defined]
            hint = _hint(error)
            if hint:
                error.possibilities = None  # type: ignore[attr-defined]
                error.message = f"{error.format_message().rstrip('.')}; {hint}"  # type: ignore[attr-defined]
            if "--json" in sys.argv:
                said = error_report(error, error.format_message(), exit_code=EXIT_BAD_INPUT)
                print(json.dumps(said), flush=True)
        raise


def _hint(error: Any) -> str:
    """What somebody may have meant whose arguments make no sense; empty if nobody knows."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option and context is not None and context.info_name == "batch":
        known = {name for p in _command("generate").params for name in p.opts}
        if option in known:
            return "in a batch it is a column of JOBS: see `omni2sound batch -h`"
    typed = next((a for a in sys.argv[1:] if Path(a).is_file()), None)
    if typed and context is not None and context.parent is None and not option:
        return f"for its sound: omni2sound generate {typed}"
    return ""


def _command(name: str) -> Any:
    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]


def _name_options(command: Any) -> None:
    """Let help and messages of a command and its subcommands name its options and arguments."""
    for child in getattr(command, "commands", {}).values():
        _name_options(child)
    run = command.callback
    if run is None:
        return
    set_metavars(command)
    names = option_names(command)

    @functools.wraps(run)
    def run_and_rename(*values: Any, **named_values: Any) -> Any:
        _Formatter.names = names
        try:
            for field, value in named_values.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise UserError(f"expected a finite number, got {value}", field=field)
            return run(*values, **named_values)
        except UserError as error:
            error.rename(names)
            raise

    command.callback = run_and_rename


# No rich markup: plain help reads the same in a pipe, and starts without importing rich.
app = typer.Typer(
    name="omni2sound",
    cls=_Group,
    help="Generate sound for a video, a text prompt, or both.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=generate.EXAMPLES)(generate.generate)
app.command(epilog=edit.EXAMPLES)(edit.edit)
app.command(epilog=mix.EXAMPLES)(mix.mix)
app.command(epilog=hand_over.EXAMPLES)(hand_over.hand_over)
app.command(epilog=project.EXAMPLES)(project.project)
app.command(epilog=batch.EXAMPLES)(batch.batch)
app.command()(sounds.sounds)
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.command("try", epilog=try_page.EXAMPLES)(try_page.try_page)
app.command()(demo.demo)
app.command()(setup.setup)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(scenes.app, name="scenes")
app.command()(recipe.train)
app.command()(recipe.train_export)
app.command()(part.train_part)
app.command()(cost.cost)
app.command()(export.export)
app.command()(convert.convert)
app.add_typer(annotate.app, name="annotate")
app.add_typer(bench.app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"omni2sound {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results and warnings.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print debug messages with their module.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="PLUGIN",
            help="Module or .py file that registers your own encoders, recipes, importers, "
            "taggers or metrics; may be repeated. Default: those of OMNI2SOUND_PLUGINS.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Generate sound for a video, a text prompt, or both."""
    if quiet and verbose:
        raise typer.BadParameter("expected one of -q and -v, got both")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = _Handler()
    handler.setFormatter(
        _Formatter("%(levelname)s %(name)s: %(message)s" if verbose else "%(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("omni2sound").setLevel(level)
    try:
        load_plugins(plugin or ())
    except UserError as error:
        # Help, and the command that looks for faults, work without plugins too.
        if context.invoked_subcommand != "doctor" and not {"-h", "--help"} & set(sys.argv):
            raise
        logging.getLogger(__name__).warning("%s", error)


def main() -> NoReturn:
    """Run one command and leave the process with its exit code."""
    guard_streams()
    _quieten_libraries()
    signal.signal(signal.SIGTERM, _terminate)
    sys.argv[1:] = _mark_files(_before_command(sys.argv[1:]))
    try:
        try:
            _only_called(app, sys.argv[1:])()
        finally:
            sys.stdout.flush()  # a full disk shows only now
        sys.exit(0)
    except (Omni2SoundError, OSError) as error:
        code = EXIT_ENVIRONMENT if is_of_environment(error) else EXIT_BAD_INPUT
        print(f"omni2sound: {_one_line(error)}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps(error_report(error, _one_line(error), exit_code=code)), flush=True)
        sys.exit(code)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        line = f'this needs {error.name}; run: pip install "omni2sound[{extra}]"'
        print(f"omni2sound: {line}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps(error_report(error, line, exit_code=EXIT_BAD_INPUT)), flush=True)
        sys.exit(EXIT_BAD_INPUT)
    except MemoryError as error:
        line = "not enough memory for this input; give a smaller one"
        print(f"omni2sound: {line}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps(error_report(error, line, exit_code=EXIT_BAD_INPUT)), flush=True)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("omni2sound: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


_ANYWHERE = frozenset({"-v", "--verbose", "-q", "--quiet"})
"""Options of the program that may stand behind a command."""


def _only_called(group: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """Return the group without the commands that are not called: building all takes 0.1 s.

    Unless the first argument is a command, all stay, for help and suggestions.
    """
    words = list(itertools.dropwhile(_ANYWHERE.__contains__, arguments))
    if not words:
        return group
    called = copy.copy(group)
    called.registered_commands = [
        info for info in group.registered_commands if _name(info) == words[0]
    ]
    called.registered_groups = [copy.copy(i) for i in group.registered_groups if i.name == words[0]]
    for info in called.registered_groups:
        if info.typer_instance:
            info.typer_instance = _only_called(info.typer_instance, words[1:])
    return called if called.registered_commands or called.registered_groups else group


def _name(info: typer.models.CommandInfo) -> str:
    assert info.callback is not None
    return info.name or typer.main.get_command_name(info.callback.__name__)


_MOST_CHARACTERS = 2_000
"""Of a message, which may repeat what a file holds."""
_OF_TORCH = ("torch", "transformers", "diffusers", "torchsde", "scipy", "pyarrow", "soundfile")
_EXTRA_OF = dict.fromkeys((*_OF_TORCH, "fsspec", "filelock"), "torch")
"""The extra that brings a library."""
_NAMES = "ENOSPC EDQUOT EROFS EACCES EPERM EIO EMFILE ENFILE ENOMEM"
_ENVIRONMENT = frozenset(getattr(errno, n) for n in _NAMES.split() if hasattr(errno, n))


def is_of_environment(error: BaseException) -> bool:
    """Whether the disk, permissions or limits of the machine are the cause, not the input."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _ENVIRONMENT:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _before_command(arguments: Sequence[str]) -> list[str]:
    """Move -v and -q, options of the program, before the command that they were typed after."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    moved = [a for a in arguments[:end] if a in _ANYWHERE]
    return [*moved, *(a for a in arguments[:end] if a not in _ANYWHERE), *arguments[end:]]


def _mark_files(arguments: Sequence[str]) -> list[str]:
    """Write ./ before names of existing files that begin with a dash, as YouTube ids may.

    What is an option of some command stays one.
    """
    if not any(a.startswith("-") and Path(a).exists() for a in arguments):
        return list(arguments)
    options = _options(typer.main.get_command(app))
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        f"./{argument}"
        if at < end
        and argument.startswith("-")
        and argument.partition("=")[0] not in options
        and Path(argument).exists()
        else argument
        for at, argument in enumerate(arguments)
    ]


def _options(command: Any) -> set[str]:
    names = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    for child in getattr(command, "commands", {}).values():
        names |= _options(child)
    return names | {"-h", "--help"}


def _quieten_libraries() -> None:
    """Turn off telemetry and foreign progress bars; the user's own settings stay."""
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "DISABLE_TELEMETRY": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Unwind the stack on SIGTERM, so that half-written files are removed on the way."""
    raise SystemExit(EXIT_TERMINATED)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = shorten(str(error.filename or ""), _MOST_CHARACTERS).replace("\n", "\\n")
        return f"{name}: {error.strerror}" if name else error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    return shorten(text, _MOST_CHARACTERS)
