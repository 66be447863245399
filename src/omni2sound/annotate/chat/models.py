"""Chat models by name: `scripted:FILE`, or `NAME@URL` of an OpenAI-compatible endpoint.

In:   a name, a role, options of endpoints by role or host, the store of calls.
Out:  a `ChatModel`.

What not to get wrong: a key goes to the host that it is given for, and to no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from omni2sound.annotate.chat.scripted import ScriptedModel
from omni2sound.errors import UserError
from omni2sound.llm import CallStore, ChatModel, Limits, Prices
from omni2sound.llm.servers.options import AudioForm, ServerOptions, Structured

Value = TypeVar("Value")

ROLES = ("vision", "junior", "senior", "validator", "judge")
"""Roles that chat models play."""
KEY_VARIABLES = {
    "api.openai.com": "OPENAI_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
}
"""Variables with the keys of known hosts; other hosts get no key unless one is named for them."""


@dataclass(frozen=True, slots=True)
class Targeted(Generic[Value]):
    """A value for all endpoints, and other values for roles or hosts.

    Attributes:
        default: For all that have none of their own; None where there is none.
        by: By role, `HOST:PORT` or host, in this order of precedence.
    """

    default: Value | None = None
    by: Mapping[str, Value] = field(default_factory=dict)

    def of(self, role: str, url: str) -> Value | None:
        """Return the value for a role at an endpoint."""
        for target in (role, urlsplit(url).netloc, urlsplit(url).hostname or ""):
            if target in self.by:
                return self.by[target]
        return self.default

    def before(self, by: Mapping[str, Value]) -> Targeted[Value]:
        """Return these values, and `by` for targets that they say nothing of."""
        return self if self.default is not None else Targeted(None, {**by, **self.by})


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatOptions:
    """How the endpoints of a run are reached; changes no result."""

    key_variable: Targeted[str] = field(default_factory=Targeted)
    """Environment variables with API keys; "none" for an endpoint without keys."""
    structured: Targeted[Structured] = field(default_factory=Targeted)
    audio_part: Targeted[AudioForm] = field(default_factory=Targeted)
    prices: tuple[Path, ...] = ()
    """Price tables that take precedence over the bundled one."""
    concurrency: int = 16
    """Most calls in flight."""
    timeout_s: float = 120.0
    """Time limit of one call."""

    def key_of(self, role: str, url: str) -> str | None:
        """Return the variable with an endpoint's key; None if no key is sent there."""
        variable = self.key_variable.of(role, url)
        variable = variable or KEY_VARIABLES.get(urlsplit(url).hostname or "")
        return None if variable == "none" else variable

    def server_of(self, role: str, url: str) -> ServerOptions:
        """Return what an endpoint takes."""
        default = ServerOptions()
        return ServerOptions(
            structured=self.structured.of(role, url) or default.structured,
            audio_part=self.audio_part.of(role, url) or default.audio_part,
        )

    def check_keys(self, names: Mapping[str, str]) -> None:
        """Refuse one key for several hosts.

        Args:
            names: Models by role.

        Raises:
            UserError: A key that is given for no host in particular would go to several.
        """
        default = self.key_variable.default
        hosts = {
            urlsplit(name.partition("@")[2]).netloc
            for role, name in names.items()
            if "@" in name
            and Targeted(None, self.key_variable.by).of(role, name.partition("@")[2]) is None
        }
        if default not in (None, "none") and len(hosts) > 1:
            raise UserError(
                f"{default} would go to {' and '.join(sorted(hosts))}; give HOST={default} for "
                "the host that it belongs to",
                field="key_variable",
            )


def chat_model(
    name: str, role: str, options: ChatOptions, *, calls: CallStore, stack: AsyncExitStack
) -> ChatModel:
    """Open the model of a role; `stack` closes its connections.

    Raises:
        UserError: The script can't be read, or the name has another form.
    """
    if name.startswith("scripted:"):
        return ScriptedModel.read(Path(name.removeprefix("scripted:")))
    model, at, url = name.partition("@")
    if not model or not at:
        raise UserError(
            f"model {name!r}: expected local, scripted:FILE, or NAME@URL of an OpenAI-compatible "
            "endpoint"
        )
    from omni2sound.llm import CachedChat, OpenAIEndpoint  # need the extra `annotate`

    endpoint = OpenAIEndpoint(
        model,
        base_url=url,
        key_variable=options.key_of(role, url),
        options=options.server_of(role, url),
        timeout_s=options.timeout_s,
    )
    stack.push_async_callback(endpoint.aclose)
    return CachedChat(
        endpoint,
        store=calls,
        prices=Prices.load(*options.prices),
        limits=Limits(concurrency=options.concurrency),
    )


def chat_models(
    names: Mapping[str, str],
    options: ChatOptions,
    *,
    calls: CallStore,
    stack: AsyncExitStack,
) -> dict[str, ChatModel]:
    """Open the models of all roles; roles that reach one endpoint alike share its limits.

    Args:
        names: By role; those of local networks are left out.
        options: Of the endpoints.
        calls: Keeps answers and costs.
        stack: Closes connections.
    """
    options.check_keys(names)
    opened: dict[tuple[object, ...], ChatModel] = {}
    models = {}
    for role, name in names.items():
        if name == "local":
            continue
        url = name.partition("@")[2]
        same = (name, options.key_of(role, url), options.server_of(role, url))
        if same not in opened:
            opened[same] = chat_model(name, role, options, calls=calls, stack=stack)
        models[role] = opened[same]
    return models
