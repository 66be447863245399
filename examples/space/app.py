"""A page on Gradio for a host of one's own: sound for a video or a prompt; a range made anew.

Sounds go in and out as files. As arrays, Gradio 6.31 gives the bits of a 32-bit float WAV as int32.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from omni2sound import Omni2SoundPipeline, UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.ranges import parse_range
from omni2sound.generate.request import draw_seed
from omni2sound.generate.words.cues import parse_cue
from omni2sound.media.audio import read_audio, write_audio

MAX_S = 30
PIPELINE = Omni2SoundPipeline.from_pretrained("embedded", engine="torch")


def generate(video, prompt, cues, seconds, seed, progress=gr.Progress()):  # noqa: B008
    with TemporaryDirectory() as folder:  # Gradio keeps copies of what is in it for an hour
        try:
            result = PIPELINE(
                video,
                prompt or None,
                cues=[parse_cue(line) for line in cues.splitlines() if line.strip()],
                duration_s=seconds or (MAX_S if video else 8),
                seed=None if seed < 0 else int(seed),
                on_step=lambda done, total: progress((done, total), desc="generating"),
            )
            result.save(sound := Path(folder, "sound.wav"))
            if video:
                result.save(copy := Path(folder, "video.mp4"), reencode=True)
        except UserError as error:
            raise gr.Error(str(error)) from error
        said = " ".join([f"Seed {result.seed}.", *(f"{note}." for note in result.notes)])
        yield str(sound), str(copy) if video else None, said


def mend(sound, ranges, prompt, seed):
    with TemporaryDirectory() as folder:
        try:
            spans = tuple(parse_range(text) for text in ranges.split(","))
            given = read_audio(sound, duration_s=MAX_S + 1) if sound else None
            if given is None or max(given.duration_s, *(span.end_s for span in spans)) > MAX_S:
                raise UserError(f"expected a sound, made or dropped, and ranges of up to {MAX_S} s")
            seed = draw_seed() if seed < 0 else int(seed)
            made = edit(PIPELINE, given, Edit(ranges=spans, prompt=prompt or None, seed=seed))
            write_audio(path := Path(folder, "mended.wav"), next(made).audio)
        except UserError as error:
            raise gr.Error(str(error)) from error
        yield str(path)


with gr.Blocks(title="omni2sound", delete_cache=(600, 3600)) as page:
    gr.Markdown(f"# omni2sound\nSound effects for a video, a prompt, or both; up to {MAX_S} s.")
    with gr.Row():
        with gr.Column():
            film = gr.Video(label="Video (optional)")
            text = gr.Textbox(label="What is heard", placeholder="a dog barks")
            timed = gr.Textbox(label="With times, one a line", placeholder="0.5-2: rain", lines=2)
            length = gr.Slider(0, MAX_S, 0, step=0.5, label="Seconds (0: the video's, or 8)")
            number = gr.Number(-1, label="Seed (-1: a new one)", minimum=-1, precision=0)
            start = gr.Button("Generate", variant="primary")
        with gr.Column():
            heard = gr.Audio(label="Sound", type="filepath")
            shown = gr.Video(label="Video with the sound", interactive=False)
            note = gr.Markdown()
            span = gr.Textbox(label="Make a range anew, seconds", placeholder="1.2-2")
            other = gr.Textbox(label="What is heard there", placeholder="a bell rings")
            again = gr.Button("Make the range anew")
    alone = {"concurrency_limit": 1, "concurrency_id": "model"}
    start.click(generate, [film, text, timed, length, number], [heard, shown, note], **alone)
    again.click(mend, [heard, span, other, number], heard, **alone)
if __name__ == "__main__":
    page.launch(max_file_size="200mb")
