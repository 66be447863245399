"""Options of one OpenAI-compatible server, as `annotate check` finds them out.

In:   names from a command line, a crew file or a probe.
Out:  `ServerOptions`; none of them is part of the content key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from omni2sound.errors import UserError

Structured = Literal["json_schema", "json_object", "text"]
"""How an endpoint gets the form of an answer: as a schema (OpenAI, Gemini, vLLM), as a request for
JSON with the schema in the prompt, or in the prompt alone."""
AudioForm = Literal["input_audio", "audio_url", "data_uri"]
"""How an endpoint gets a sound: as OpenAI defines it (also Gemini, vLLM, llama.cpp, Ollama); as a
URL that holds the data (SGLang before August 2026, vLLM); as `input_audio` whose data are a data
URI (DashScope)."""
TokensOption = Literal["max_completion_tokens", "max_tokens"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptions:
    """What a server takes, and in which form."""

    structured: Structured = "json_schema"
    audio_part: AudioForm = "input_audio"
    tokens_option: TokensOption = "max_completion_tokens"
    """Name of its limit of output tokens; older servers know the second."""

    def __post_init__(self) -> None:
        kinds = {
            "structured": Structured,
            "audio_part": AudioForm,
            "tokens_option": TokensOption,
        }
        for name, kind in kinds.items():
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise UserError(f"expected one of {', '.join(known)}, got {value!r}", field=name)
