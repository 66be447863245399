"""Errors name fields; the command line names its options instead."""

from __future__ import annotations

import pickle

import pytest

from omni2sound.cli.main import app
from omni2sound.errors import MOST_CHARACTERS, ConfigError, UserError


def test_a_field_stands_before_the_message() -> None:
    assert str(UserError("expected 1, got 0", field="takes")) == "takes: expected 1, got 0"
    assert str(UserError("nothing to do")) == "nothing to do"


def test_fields_take_the_names_that_the_caller_gave_them() -> None:
    error = ConfigError("got 0; leave out `seed` or `other`", field="takes")
    error.rename({"takes": "--takes", "seed": "--seed"})
    assert str(error) == "--takes: got 0; leave out --seed or `other`"


def test_what_a_file_holds_does_not_fill_the_terminal() -> None:
    message = str(UserError(f"expected a number, got {'x' * 10**6}"))
    assert message.startswith("expected a number, got x")
    assert len(message) == MOST_CHARACTERS + len("...")
    again = pickle.loads(pickle.dumps(UserError(message)))
    assert str(again) == message


def test_a_worker_process_can_send_its_error() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("got 0", field="takes")))
    assert isinstance(error, ConfigError)
    assert str(error) == "takes: got 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--prompt", "rain", "--steps", "0"],
            "--steps: expected a whole number from 1 to",
        ),
        (["--prompt", " "], "--prompt: is empty; describe the sound, or leave it out"),
        (["--prompt", "rain", "--loudness", "3"], "--loudness: expected -50 to -5 LUFS, got 3.0"),
        (["--prompt", "rain", "--text-guidance", "3"], "or use --guidance alone"),
    ],
)
def test_a_command_names_its_options(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        app(["generate", *arguments])
    assert message in str(raised.value)
