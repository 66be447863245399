"""Plugins: a user's own encoders, autoencoders, recipes, importers, taggers and metrics.

In:   plugins (module names or paths of .py files) from `omni2sound --plugin` or from the
      environment variable `OMNI2SOUND_PLUGINS`.
Out:  entries of the `Registry` of each extension point, which plugins add when imported.

What not to get wrong: a worker process starts without the plugins of its parent. So plugins
are kept in the environment variable, which workers inherit and read.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from omni2sound.errors import ConfigError, UserError
from omni2sound.readers import real_path

PLUGINS_VARIABLE = "OMNI2SOUND_PLUGINS"
"""Environment variable; several plugins are separated as in `PATH`."""

T = TypeVar("T")
_imported: set[str] = set()
_importing: list[str] = []


class Registry(Mapping[str, T]):
    """The implementations of one extension point by name."""

    def __init__(
        self,
        what: str,
        entries: Mapping[str, T],
        *,
        kind: Any = object,
        note: str = "plugins add others",
    ) -> None:
        """Start with the built-in entries.

        Args:
            what: What an entry is, for messages: "recipe".
            entries: The built-in ones, in the order of messages.
            kind: Type of an entry, such as `Callable`.
            note: Ends the message about an unknown name.
        """
        self.what = what
        self._kind = kind
        self._note = note
        self._entries = dict(entries)
        self._plugins: dict[str, str] = {}

    def register(self, name: str, entry: T) -> None:
        """Add an entry.

        Args:
            name: Letters, digits, spaces, `_`, `.` and `-`.
            entry: What `find` returns for it.

        Raises:
            UserError: If the name is taken or has other characters, or the entry is of another
                type.
        """
        if not re.fullmatch(r"\w[\w .-]*", name):
            raise UserError(f"{self.what} {name!r}: expected letters, digits, spaces, _, . and -")
        if name in self._entries:
            owner = f", from plugin {plugin!r}" if (plugin := self.plugin_of(name)) else ""
            raise UserError(f"{self.what} {name!r} exists already{owner}; choose another name")
        if not isinstance(entry, self._kind):
            expected = f"expected one of type {self._kind.__name__}, got {repr(entry)[:80]}"
            raise UserError(f"{self.what} {name!r}: {expected}")
        self._entries[name] = entry
        if _importing:
            self._plugins[name] = _importing[-1]

    def plugin_of(self, name: str) -> str | None:
        """The plugin that added an entry; None for a built-in one."""
        return self._plugins.get(name)

    def find(self, name: str) -> T:
        """Return an entry; plugins are imported first if the name is not known yet.

        Raises:
            ConfigError: If there is none of this name; the known ones are listed.
            UserError: If a plugin cannot be imported.
        """
        if name not in self._entries:
            load_plugins()
        if name not in self._entries:
            known = ", ".join(self._entries)
            raise ConfigError(f"no {self.what} {name!r}; known: {known}; {self._note}")
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load_plugins(plugins: Iterable[str] = ()) -> None:
    """Import plugins that are not imported yet, in this process and in its future workers.

    Args:
        plugins: Module names (the current folder is searched too) or paths of .py files. Those
            of the environment variable come first.

    Raises:
        UserError: If some are missing or fail; the others are imported all the same.
    """
    named = [p for p in os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep) if p]
    named_paths, given = ([_absolute(p) for p in group] for group in (named, plugins))
    paths = [*named_paths, *given]
    if split := [p for p in given if os.pathsep in p]:
        raise UserError(
            f"plugin {split[0]!r}: expected a path without {os.pathsep!r}, which separates plugins "
            f"in {PLUGINS_VARIABLE}; move the file"
        )
    failed: dict[str, BaseException] = {}
    for plugin in dict.fromkeys(paths):
        if plugin in _imported:
            continue
        _imported.add(plugin)  # before: a plugin may look up entries while it is imported
        _importing.append(plugin)
        try:
            _import_file(Path(plugin)) if plugin.endswith(".py") else _import_module(plugin)
        except (Exception, SystemExit) as error:
            failed[plugin] = error
        except BaseException:  # Ctrl-C
            _imported.discard(plugin)
            raise
        finally:
            _importing.pop()
    _imported.difference_update(failed)
    if failed:
        origin = dict.fromkeys(named_paths, f" of {PLUGINS_VARIABLE}")
        reasons = (f"plugin {p!r}{origin.get(p, '')}: {_reason(e, p)}" for p, e in failed.items())
        raise UserError("; ".join(reasons)) from next(iter(failed.values()))
    if paths:
        os.environ[PLUGINS_VARIABLE] = os.pathsep.join(dict.fromkeys(paths))


def _absolute(plugin: str) -> str:
    return str(real_path(Path(plugin))) if plugin.endswith(".py") else plugin


def _import_module(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ModuleNotFoundError(name=name)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # a console script has its own folder there, not the current one
    importlib.import_module(name)


def _import_file(path: Path) -> None:
    # A name of its own: a file `json.py` must not replace the module `json`.
    name = f"omni2sound_plugin_{path.stem}_{zlib.crc32(os.fsencode(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None  # it ends in .py
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _reason(error: BaseException, plugin: str) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == plugin:
        return "no such file"
    if plugin.endswith(".py") and Path(plugin).is_dir():
        return "is a folder; give the path of a .py file"
    if isinstance(error, ModuleNotFoundError) and f"{plugin}.".startswith(f"{error.name}."):
        return "no such module; give a module that Python can import, or the path of a .py file"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
