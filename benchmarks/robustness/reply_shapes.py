"""Is each shape of a reply read as the right answer, or as one failure with its name?

    python -m benchmarks.robustness.reply_shapes

Forty shapes of replies, each from doubles of six servers (`server_doubles.py`), asked through the
store as `annotate` asks. Printed is a table of outcomes with the number of calls that were billed:
an answer is bought once, a malformed reply three times at most, a cut one twice (the second with a
raised limit). Asking again buys nothing. Exit code 1: a shape is read in another way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.robustness.server_doubles import (
    AUDIO_FORM,
    KINDS,
    STRUCTURED,
    Kind,
    Said,
    ServerDouble,
)

CAP = 60
WANTED = {"caption": "A dog barks twice.", "start_s": 0.5, "end_s": None, "is_music": False}
TEXT = json.dumps(WANTED)
DRAFT = json.dumps({**WANTED, "caption": "Perhaps a cat."})
ANSWERED, MALFORMED, CUT, REFUSED = "answered", "Malformed", "CutOff", "Refused"
MOST_BILLED = {ANSWERED: 1, MALFORMED: 3, CUT: 2, REFUSED: 1}


@dataclass(frozen=True)
class Shape:
    """One shape of a reply and how it has to be read."""

    said: Said
    outcome: str = ANSWERED
    most_billed: int | None = None

    @property
    def calls(self) -> int:
        """Most billed calls."""
        return self.most_billed or MOST_BILLED[self.outcome]


def _said(text: Any = TEXT, **more: Any) -> Shape:
    return Shape(Said(text=text, **more))


def _bad(outcome: str, text: Any = "", **more: Any) -> Shape:
    return Shape(Said(text=text, **more), outcome)


def _with(**changes: Any) -> str:
    return json.dumps({**WANTED, **changes})


SHAPES: dict[str, Shape] = {
    "plain": _said(),
    "pretty printed": _said(json.dumps(WANTED, indent=2)),
    "fenced": _said(f"```json\n{TEXT}\n```"),
    "fenced, no language": _said(f"```\n{TEXT}\n```"),
    "a sentence before": _said(f"Here is the JSON you asked for:\n{TEXT}"),
    "a sentence behind": _said(f"{TEXT}\n\nLet me know if you need more {{details}}."),
    "braces in prose": _said(f"The set {{dog, bark}} is heard. {TEXT}"),
    "thoughts in tags": _said(thoughts=f"maybe {DRAFT}? no", thoughts_in_content=True),
    "thoughts, closing tag only": _said(f"It may be {DRAFT}\n</think>\n{TEXT}"),
    "thoughts in <reasoning>": _said(f"<reasoning>{DRAFT}</reasoning>{TEXT}"),
    "thoughts in a field": _said(thoughts=f"maybe {DRAFT}"),
    "answer in the thoughts' field": _said(answer_in_thoughts=True),
    "two objects": _said(f"{DRAFT}\n{TEXT}"),
    "draft, then final": _said(f"Draft: {DRAFT}\nFinal: ```json\n{TEXT}\n```"),
    "another object behind": _said(f'{TEXT}\n{{"confidence": 0.9}}'),
    "another object before": _said(f'{{"thinking": "a dog"}}\n{TEXT}'),
    "list of one": _said(f"[{TEXT}]"),
    "encoded twice": _said(json.dumps(TEXT)),
    "one content part": _said([{"type": "text", "text": TEXT}]),
    "content in parts": _said(
        [{"type": "text", "text": TEXT[:20]}, {"type": "text", "text": TEXT[20:]}]
    ),
    "thinking part": _said(
        [{"type": "thinking", "thinking": [DRAFT]}, {"type": "text", "text": TEXT}]
    ),
    "NaN": _said(_with(end_s=float("nan"))),
    "NaN as text": _said(_with(end_s="NaN")),
    "infinity": _said(_with(end_s=float("inf"))),
    "number as text": _said(_with(start_s="0.5")),
    "number with a unit": _said(_with(start_s="0.5 s", end_s="unknown")),
    "clock": _said(_with(start_s="00:00.5")),
    "truth as text": _said(_with(is_music="false")),
    "unknown left out": _said(json.dumps({k: v for k, v in WANTED.items() if k != "end_s"})),
    "no usage block": _said(usage=False),
    "no finish reason": _said(finish=None),
    "end at a stop string": _said(finish="eos_token"),
    "cut off": _bad(CUT, TEXT.replace("A dog", "A dog " + "rustle " * 10**4)),
    "whole with more tokens": Shape(Said(text="rustle " * 100 + TEXT), most_billed=2),
    "cut while thinking": _bad(CUT, TEXT, thinking_tokens=10**5),
    "cut, called max_tokens": _bad(CUT, TEXT[:30], finish="MAX_TOKENS"),
    "empty": _bad(MALFORMED),
    "prose only": _bad(MALFORMED, "I hear a dog that barks twice."),
    "thoughts without end": _bad(MALFORMED, f"<think>maybe {TEXT} or not"),
    "a field is missing": _bad(MALFORMED, '{"start_s": 0.5, "end_s": null, "is_music": false}'),
    "refusal": _bad(REFUSED, refusal="I can't help with that."),
    "stopped by a filter": _bad(REFUSED, finish="content_filter"),
    "no choices": _bad(MALFORMED, body=b'{"choices": []}'),
}


async def ask_all(kind: Kind, folder: Path) -> list[tuple[str, str, int]]:
    """Ask for each shape, twice; return shape, outcome and number of billed calls."""
    from pydantic import BaseModel

    from omni2sound.errors import ModelCallError
    from omni2sound.llm import CachedChat, CallStore, ChatRequest, OpenAIEndpoint, Prices
    from omni2sound.llm.answers import Flag, Number, Seconds
    from omni2sound.llm.chat import AudioPart, user
    from omni2sound.llm.servers.options import ServerOptions

    class Caption(BaseModel):
        caption: str
        start_s: Seconds
        end_s: Number = None
        is_music: bool
        on_screen: Flag = None

    def say(body: dict[str, Any]) -> Said:
        return SHAPES[body["messages"][0]["content"][0]["text"]].said

    found = []
    async with ServerDouble(kind, say) as server:
        with CallStore.open(folder / f"{kind}.sqlite") as store:
            endpoint = OpenAIEndpoint(
                "model",
                base_url=server.url,
                key_variable=None,
                options=ServerOptions(
                    structured=STRUCTURED[kind],  # type: ignore[arg-type]
                    audio_part=AUDIO_FORM[kind],  # type: ignore[arg-type]
                ),
            )
            for number, name in enumerate(SHAPES):
                model = CachedChat(endpoint, store=store, prices=Prices({}))
                sound = AudioPart(data=b"RIFF", format="wav", duration_s=1.0)
                request = ChatRequest(
                    messages=(user(name, sound),),
                    prompt_version=f"shape-{number}/1",
                    max_output_tokens=CAP,
                    answer=Caption,
                )
                before, outcome = server.billed, ""
                for _ in range(2):
                    try:
                        answer = (await model.ask(request)).parsed(Caption)
                        right = answer.model_dump(exclude={"on_screen"}) == WANTED
                        outcome = ANSWERED if right else f"wrong answer: {answer}"
                    except ModelCallError as error:
                        outcome = type(error).__name__
                    if outcome == REFUSED:
                        break  # a later run may ask again, three times at most
                found.append((name, outcome, server.billed - before))
            await endpoint.aclose()
    return found


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    logging.disable(logging.WARNING)  # no price is known, and each cut reply is told
    wrong = 0
    print(f"{'shape':32}" + "".join(f"{kind:>14}" for kind in KINDS))
    with tempfile.TemporaryDirectory() as folder:
        columns = [asyncio.run(ask_all(kind, Path(folder))) for kind in KINDS]
    billed = 0
    for row in zip(*columns, strict=True):
        name = row[0][0]
        wanted = SHAPES[name].outcome
        cells = ""
        for _, outcome, calls in row:
            is_right = outcome == wanted and calls <= SHAPES[name].calls
            wrong += not is_right
            billed += calls
            cells += f"{outcome[:10]} {calls}{' ' if is_right else '!'}".rjust(14)
        print(f"{name:32}{cells}")
    print(
        f"{len(SHAPES)} shapes x {len(KINDS)} servers: {wrong} read wrongly, {billed} calls billed"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
