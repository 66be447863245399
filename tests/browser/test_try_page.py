"""The page of `omni2sound try` in headless Chromium: the sound of the Python runtime, offline.

What the page computes is compared with Python's numbers, by importing its `runtime.js`.
"""

from __future__ import annotations

import base64
import threading
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from benchmarks.checks.page_driver import available, chromium
from benchmarks.checks.try_driver import TryPage, difference_db, try_page
from omni2sound.browser.parts import make_parts
from omni2sound.browser.site import site_server
from omni2sound.diffusion.array_solver import noise_levels, solve
from omni2sound.encoders.reading import load_tokenizer
from omni2sound.export.shipped import make_export
from omni2sound.generate.going_on import goes_on, longest_stretch, repeat_stretch
from omni2sound.generate.onnx.folder import TOKENIZER
from omni2sound.generate.onnx.noise import Noise
from omni2sound.generate.onnx.pipeline import OnnxPipeline
from omni2sound.generate.windows import crossfade_weights, window_starts
from omni2sound.generate.words.kinds import all_kinds, example_of
from omni2sound.generate.words.notes import asks_for_speech_alone
from omni2sound.media.samples import Audio, resample
from omni2sound.media.video import iter_frames
from omni2sound.timebase import even_rate
from omni2sound.weights import load_card, resolve_model
from tests.build import film_of_waves, video_with_square

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available() is not None, reason=available() or ""),
]
SAME_DB = -40
TEXTS = [
    *(example_of(kind) for kind in all_kinds()),
    "Rain, then thunder",
    "a CAR passing by; naïve café 雨 🙂 don't",
    "a man talks",
    "a man saws wood",
    "rain on a tin roof and wind",
]
LETTERS = [
    chr(code)
    for begin, end in ((0, 0x52F), (0x2000, 0x22FF), (0x3000, 0x30FF), (0x4E00, 0x4E20))
    for code in range(begin, end)
    if unicodedata.category(chr(code)) != "Cn"
]
"""Scripts that Unicode has not changed lately: tables of the two tokenizers differ in age."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "exported"
    make_export(load_card(resolve_model("embedded")), folder)
    return folder


@pytest.fixture(scope="module")
def page(exported: Path) -> Iterator[TryPage]:
    parts = exported.parent / "parts"
    make_parts(exported, parts)
    with site_server(parts, 0) as server, chromium() as browser:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        with try_page(browser, f"http://127.0.0.1:{server.server_address[1]}/") as page:
            yield page
        server.shutdown()


def ask(page: Page, body: str, given: Any = None) -> Any:
    """What a function body returns to which the page's runtime is `runtime`."""
    return page.evaluate(
        "(given) => import(new URL('runtime.js', document.baseURI)).then((runtime) => "
        f"(async (runtime, given) => {{ {body} }})(runtime, given))",
        given,
    )


def test_noise_is_that_of_python(page: TryPage) -> None:
    made = ask(
        page.page,
        "const noise = new runtime.Noise(given); return "
        "[[...noise.normal(1000)], noise.below(77), noise.below(5), [...noise.normal(16)]]",
        2**31 + 7,
    )
    noise = Noise(2**31 + 7)
    wanted = [noise.normal((1000,)), noise.below(77), noise.below(5), noise.normal((16,))]
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_solver_is_that_of_python(page: TryPage, exported: Path) -> None:
    config = OnnxPipeline.load(exported, once=True).model.card.sampler
    noise_BLC = Noise(3).normal((1, 4, 8))
    wanted = solve(lambda x, t: x * t[0] - x**2 / 9, noise_BLC, config=config, num_steps=6)
    made = ask(
        page.page,
        "const model = async (x, t) => x.map((v) => v * t - v * v / 9);"
        "const noise = Float32Array.from(given.noise);"
        "return [runtime.noiseLevels(given.config, 6),"
        " [...await runtime.solve(model, noise, given.config, 6)]]",
        {
            "noise": noise_BLC.ravel().tolist(),
            "config": {f: getattr(config, f) for f in ("kind", "sigma_min", "sigma_max", "rho")}
            | {"bound": config.bound},
        },
    )
    np.testing.assert_allclose(made[0], noise_levels(config, 6), rtol=1e-6)
    np.testing.assert_allclose(made[1], wanted.ravel(), rtol=1e-4, atol=1e-5)


def test_words_are_read_as_in_python(page: TryPage, exported: Path) -> None:
    tokenizer = load_tokenizer(exported / TOKENIZER, max_tokens=16)
    texts = list(TEXTS)

    @settings(max_examples=150, database=None)
    @given(st.text(st.sampled_from(LETTERS)))
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    made = ask(
        page.page,
        "const base = new URL('parts/', document.baseURI);"
        "const reply = await fetch(new URL('tokenizer.json.packed', base));"
        "const file = new TextDecoder().decode(await runtime.inflate(await reply.arrayBuffer()));"
        "const tokenizer = new runtime.Tokenizer(JSON.parse(file));"
        "const { rules } = await (await fetch(new URL('index.json', base))).json();"
        "return given.map((text) => [tokenizer.encode(text, 16),"
        " runtime.goesOn(text, rules), runtime.asksForSpeechAlone(text, rules)])",
        texts,
    )
    for text, (ids, continues, speaks) in zip(texts, made, strict=True):
        assert ids == tokenizer.encode(text).ids, text
        if text in TEXTS:
            assert (continues, speaks) == (goes_on(text), asks_for_speech_alone(text)), text
    assert {goes_on(text) for text in TEXTS} == {asks_for_speech_alone(t) for t in TEXTS}


def test_windows_stretches_and_rates_are_those_of_python(page: TryPage) -> None:
    level_L = np.abs(Noise(1).normal((120,))) * (np.arange(120) % 70 > 20) + np.float32(1e-9)
    latents_LC = Noise(2).normal((120, 4))
    sound_N = Noise(5).normal((1600,)).cumsum().astype(np.float32)
    made = ask(
        page.page,
        "const level = Float32Array.from(given.level);"
        "const latents = Float32Array.from(given.latents);"
        "const starts = runtime.windowStarts(395, 250, 50);"
        "return [starts, runtime.crossfadeWeights(starts, 395, 250).map((w) => [...w]),"
        " runtime.longestStretch(level),"
        " [...runtime.repeatStretch(latents, level, new runtime.Noise(9))],"
        " [...runtime.resample(Float32Array.from(given.sound), 16000, 44100)],"
        " given.rates.map((rate) => runtime.evenRate(rate, 25))]",
        {
            "level": level_L.tolist(),
            "latents": latents_LC.ravel().tolist(),
            "sound": sound_N.tolist(),
            "rates": [12, 24, 25, 29.97, 50, 60, 120],
        },
    )
    starts = window_starts(395, window=250, overlap=50)
    low = Audio(samples_CN=sound_N[None], sample_rate_hz=16_000)
    high_N = resample(low, 44_100).samples_CN[0]
    assert tuple(made[0]) == starts
    np.testing.assert_allclose(made[1], crossfade_weights(starts, 395, window=250), rtol=1e-5)
    assert tuple(made[2]) == longest_stretch(level_L)
    repeated = repeat_stretch(latents_LC, level_L, [(0, 120)], Noise(9))
    np.testing.assert_allclose(made[3], repeated.ravel(), rtol=1e-4, atol=1e-5)
    # Both filters know nothing outside, where they differ.
    assert difference_db(np.array(made[4])[400:-400], high_N[400:-400]) < -50
    rates = [even_rate(Fraction(str(r)), 25) for r in (12, 24, 25, 29.97, 50, 60, 120)]
    np.testing.assert_allclose(made[5], [float(rate) for rate in rates])


def test_pictures_are_those_of_python(page: TryPage, tmp_path: Path) -> None:
    film = film_of_waves(tmp_path / "film.mp4")
    encoded = base64.b64encode(film.read_bytes()).decode()
    made = ask(
        page.page,
        "const bytes = Uint8Array.from(atob(given), (letter) => letter.charCodeAt(0));"
        "const blob = new Blob([bytes]);"
        "const index = await (await fetch(new URL('parts/index.json', document.baseURI))).json();"
        "const film = await runtime.openFilm(blob);"
        "const { vision, sync, syncFps } = await film.pictures(index.card, film.seconds, () => {});"
        "const encoded = (bytes) => btoa(bytes.reduce((s, b) => s + String.fromCharCode(b), ''));"
        "return [film.seconds, syncFps, encoded(vision), encoded(sync)]",
        encoded,
    )
    assert made[0] == pytest.approx(1)
    assert made[1] == pytest.approx(30)
    for pixels, fps, side in ((made[2], 8, 224), (made[3], 30, 96)):
        wanted = np.stack(list(iter_frames(film, fps=fps, size_px=(side, side))))
        given = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(wanted.shape)
        assert (
            np.abs(given.astype(int) - wanted).mean() < 2.5
        )  # another decoder, another matrix of colours


def test_a_sentence_and_a_video_sound_as_in_python_without_a_network(
    page: TryPage, exported: Path, tmp_path: Path
) -> None:
    pipeline = OnnxPipeline.load(exported)
    assert page.load() <= 90
    page.page.context.set_offline(True)
    page.make("rain falls", seed=5, seconds=1.5)
    wanted = pipeline(prompt="rain falls", duration_s=1.5, seed=5).audio
    assert difference_db(page.samples(), wanted.samples_CN[0]) < SAME_DB
    np.testing.assert_allclose(page.save(tmp_path / "rain.wav"), page.samples(), atol=2**-16)
    film = video_with_square(tmp_path / "square.mp4", duration_s=1.0)
    seen = pipeline(video=film, seed=6, recognise=False, channels=1).audio
    card = pipeline.model.card
    size, side = (card.vision["height_px"], card.vision["width_px"]), card.sync["side_px"]
    vision = np.stack(list(iter_frames(film, fps=8, size_px=size))).tobytes()
    sync = np.stack(list(iter_frames(film, fps=25, size_px=(side, side)))).tobytes()
    page.make_for_pictures(vision, sync, sync_fps=25, seconds=1, seed=6)
    assert difference_db(page.samples(), seen.samples_CN[0]) < SAME_DB
    assert not page.foreign
    assert not page.complaints
