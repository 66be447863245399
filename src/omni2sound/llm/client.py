"""Client of OpenAI-compatible endpoints: one call, one send.

In:   a `ChatRequest`; the endpoint's URL, model and options.
Out:  a `ChatReply`, or `SendFailed`, which states whether the send may have been billed and whether
      a retry may succeed.

The SDK's own retries are off: each send must be booked before it happens (`cached.py`). What not to
get wrong: no exception of the SDK leaves this module, not even as a cause, because it carries
the request with its key. Redirects are never followed: sound and pictures would go to a host that
nobody named.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from omni2sound.errors import UserError
from omni2sound.llm.chat import ChatReply, ChatRequest, ModelId, SendFailed
from omni2sound.llm.optional import needs
from omni2sound.llm.replies import (
    MAX_TEXT_CHARACTERS,
    SHOWN_CHARACTERS,
    BodyTooLong,
    bound_body,
    read_reply,
)
from omni2sound.llm.retries import retry_after_s
from omni2sound.llm.servers.body import request_body
from omni2sound.llm.servers.options import ServerOptions
from omni2sound.redact import ApiKey, scrub, shorten

with needs("openai"):
    import openai

OPENAI_URL = "https://api.openai.com/v1"

_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
"""Exceptions of the HTTP library before any byte was sent."""
_TRANSIENT = {408, 409, 425, 429}
_NO_MONEY_LEFT = {"insufficient_quota", "billing_hard_limit_reached"}
_POLICY = {"content_filter", "content_policy_violation"}
_OF_REQUEST = {400, 406, 411, 413, 414, 415, 422}
"""What the request holds is rejected; any other rejection is the endpoint's, its key's or its
model's name."""
_OF_KEY_OR_MODEL = re.compile(
    r"api[ _-]?key|API_KEY_INVALID|model\b.{0,80}\b(not found|not exist|does not exist)",
    re.IGNORECASE,
)
"""Gemini's endpoint rejects a key with status 400."""
_NOT_SUPPORTED = re.compile(r"not supported|unsupported", re.IGNORECASE)
"""llama.cpp's server says so with status 500."""


class OpenAIEndpoint:
    """Model behind a URL; connects on first use, `aclose` disconnects."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str = OPENAI_URL,
        key_variable: str | None = "OPENAI_API_KEY",
        options: ServerOptions | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Args.

        model: The model's name at the endpoint.
        base_url: URL without `/chat/completions`.
        key_variable: Environment variable with the key; None if no key is needed.
        options: What the server takes, and in which form; None takes what OpenAI's does.
        timeout_s: Time limit of one send.

        Raises:
            UserError: The URL is malformed, or the key is missing.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"endpoint {base_url!r}: expected http://... or https://...")
        if parts.username or parts.password or parts.query or parts.fragment:
            # The URL is stored with every call and shown in every error.
            raise UserError(
                f"endpoint at {parts.hostname}: expected a URL without user, password or query; "
                "put the key into an environment variable"
            )
        if timeout_s <= 0:
            raise UserError(f"expected more than 0, got {timeout_s}", field="timeout_s")
        self.id = ModelId(endpoint=base_url.rstrip("/"), model=model)
        self._key = ApiKey.from_variable(key_variable)
        self._options = options or ServerOptions()
        self._timeout_s = timeout_s
        self._client = openai.AsyncOpenAI(
            api_key=self._key.reveal(),
            base_url=self.id.endpoint,
            max_retries=0,
            timeout=timeout_s,
            default_headers={"Accept-Encoding": "identity"},
            # What is sent goes to the named endpoint and nowhere else.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [bound_body]}
            ),
        )

    def __repr__(self) -> str:
        return f"OpenAIEndpoint({self.id})"

    def with_options(self, options: ServerOptions) -> Self:
        """Return the same endpoint with other options; both share their connections."""
        other = copy(self)
        other._options = options
        return other

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def send(self, request: ChatRequest) -> ChatReply:
        """Send once; see `ChatEndpoint`."""
        body = request_body(request, self.id.model, self._options)
        failure: SendFailed
        try:
            async with asyncio.timeout(self._timeout_s):
                # `chat.completions.create` would walk every field of the body by its type
                # annotations, which takes longer than all the rest.
                content = await self._client.post("/chat/completions", cast_to=bytes, body=body)
            return self._reply(content)
        except SendFailed as error:
            failure = error
        except openai.APIStatusError as error:
            refusal, failure = self._rejection(error)
            if refusal is not None:
                return refusal
        except (openai.APITimeoutError, TimeoutError) as error:
            failure = self._no_reply(error, f"no reply within {self._timeout_s:g} s")
        except BodyTooLong as error:
            return ChatReply(text="", malformed=str(error))
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, BodyTooLong):
                return ChatReply(text="", malformed=str(error.__cause__))
            failure = self._no_reply(error, "connection lost")
        except Exception as error:  # the SDK's own checks, and bugs
            failure = SendFailed(
                scrub(f"{type(error).__name__}: {error}"),
                maybe_billed=True,
                transient=False,
            )
        # Drop cause, context and frames of the SDK, whose locals hold the key.
        failure.__cause__ = failure.__context__ = None
        raise failure.with_traceback(None)

    def _reply(self, content: bytes) -> ChatReply:
        try:
            reply = read_reply(json.loads(content))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # Some servers send errors as completions: another try may succeed.
            shown = shorten(content.decode(errors="replace"), SHOWN_CHARACTERS)
            raise SendFailed(
                f"not a chat completion ({type(error).__name__}): {shown!r}",
                maybe_billed=True,
                transient=True,
            ) from None
        refusal = reply.refusal
        if len(reply.text) > MAX_TEXT_CHARACTERS:  # refused by its length, see `checked`
            return replace(reply, refusal=None)
        return replace(
            reply,
            text=scrub(reply.text),
            refusal=None if refusal is None else shorten(refusal, MAX_TEXT_CHARACTERS),
        )

    def _rejection(self, error: openai.APIStatusError) -> tuple[ChatReply | None, SendFailed]:
        status = error.status_code
        told, code = _told(error)
        message = shorten(told, SHOWN_CHARACTERS)
        if error.response.has_redirect_location:
            to = _origin(str(error.response.request.url), error.response.headers["location"])
            message = (
                f"redirects to {to}, which is not followed; name that endpoint if you trust it"
            )
        cannot = status >= 500 and _NOT_SUPPORTED.search(told) is not None
        failure = SendFailed(
            f"status {status}: {message}",
            maybe_billed=(status >= 500 and not cannot) or status == 408,
            transient=(status >= 500 or status in _TRANSIENT)
            and code not in _NO_MONEY_LEFT
            and not cannot,
            retry_after_s=retry_after_s(error.response.headers),
            of_request=cannot or (status in _OF_REQUEST and _OF_KEY_OR_MODEL.search(told) is None),
        )
        if code in _POLICY:  # billed by some endpoints: usage stays unknown
            return ChatReply(text="", finish="content_filter", refusal=message), failure
        return None, failure

    def _no_reply(self, error: Exception, what: str) -> SendFailed:
        cause = error.__cause__ or error.__context__
        sent = type(cause).__name__ not in _NOT_SENT
        detail = "" if cause is None else scrub(f" ({type(cause).__name__}: {cause})")
        return SendFailed(
            f"{what}{detail}" if sent else f"no connection{detail}",
            maybe_billed=sent,
            transient=True,
        )


def _told(error: openai.APIStatusError) -> tuple[str, str]:
    """Return message and code of an error; Gemini's endpoint sends a list of one."""
    body: Any = error.body
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        body = body[0].get("error", body[0])
        if isinstance(body, Mapping):
            return str(body.get("message") or error.message), str(body.get("status") or "")
    return str(error.message), str(error.code or "")


def _origin(url: str, location: str) -> str:
    """Return scheme, host and port of a redirect; the rest may hold secrets."""
    try:
        parts = urlsplit(urljoin(url, location))
    except ValueError:
        return "a malformed URL"
    return shorten(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", 200)
