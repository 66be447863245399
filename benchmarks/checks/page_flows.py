"""Walks through the studio page with the real server and the bundled model in headless Chromium.

Run: python -m benchmarks.checks.page_flows

Each line is one walk: dropping, choosing, cues, ranges, undo, export, and what goes wrong (wrong
files, a killed server, a slow network, two tabs). A walk fails if the page throws, breaks its
policy, or asks any other site for anything. `--only` takes a part of a name.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from playwright.sync_api import Browser, expect

from benchmarks.checks.page_driver import (
    AXE,
    UPLOAD_MB,
    WAIT_MS,
    Flow,
    Served,
    Studio,
    available,
    chromium,
    square_film,
    tab,
)


def _samples(studio: Studio, take: dict[str, Any], dtype: str = "int16") -> np.ndarray:
    url = studio.served.address + take["sound"].lstrip("/")
    return soundfile.read(io.BytesIO(urllib.request.urlopen(url).read()), dtype=dtype)[0]


def a_dropped_film_is_looked_at(browser: Browser, served: Served, folder: Path) -> None:
    with tab(browser, served) as studio:
        studio.film(square_film(folder))
        assert studio.page.title().startswith("square.mp4")
        assert studio.page.locator(".row[data-row=strip] canvas").is_visible()
        assert studio.kept()["media"]["duration_s"] == 2
        studio.check_clean()


def a_chosen_film_gets_two_takes_beside_each_other(
    browser: Browser, served: Served, folder: Path
) -> None:
    with tab(browser, served) as studio:
        studio.choose_file(square_film(folder))
        expect(studio.page.locator(".studio")).to_be_visible(timeout=WAIT_MS)
        studio.quick().make(2)
        studio.leave_field()
        heard = []
        for key in ("1", "2", "x", "x", "ArrowUp", "ArrowDown"):
            studio.key(key)
            studio.page.wait_for_timeout(50)
            heard.append(studio.heard)
        assert heard == ["A", "B", "A", "B", "A", "B"]
        studio.check_clean()


def a_wrong_file_is_a_sentence(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.drop(b"this is no film" * 100, "film.mp4")
        studio.says(r"^\W*[A-Z].*film")
        studio.drop(b"", "nothing.mp4")
        studio.says("nothing.mp4 is empty")
        assert studio.page.get_by_text("Drop a video here").is_visible()
        studio.check_clean()


def a_huge_file_is_refused_before_it_is_sent(
    browser: Browser, served: Served, folder: Path
) -> None:
    path = folder / "huge.mp4"
    path.write_bytes(bytes((UPLOAD_MB + 1) * 10**6))
    with tab(browser, served) as studio:
        expect(studio.page.get_by_text("The model knows")).to_be_visible()
        studio.choose_file(path)
        studio.says("takes up to")
        assert not [url for url in studio.requests if url.endswith("/v1/media")]
        studio.check_clean()


def two_files_at_once_are_one(browser: Browser, served: Served, folder: Path) -> None:
    with tab(browser, served) as studio:
        studio.drop(square_film(folder).read_bytes(), "one.mp4|two.mp4")
        studio.says("one.mp4 is taken")
        expect(studio.page.locator(".studio")).to_be_visible(timeout=WAIT_MS)
        assert studio.kept()["media"]["name"] == "one.mp4"


def a_session_is_undone_and_done_again(browser: Browser, served: Served, folder: Path) -> None:
    """Prompt, cues, takes, a range made new, another take chosen: back to nothing and forth."""
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls", 2.0)
        studio.cue("a dog barks", 0.1, 0.4)
        studio.make(1)
        studio.select(0.5, 0.8)
        studio.page.get_by_role("button", name="Make new in A").click()
        expect(studio.takes).to_have_count(2, timeout=WAIT_MS)
        whole = studio.kept()
        before, after = (_samples(studio, take) for take in whole["takes"])
        rate = len(before) / whole["takes"][0]["duration_s"]
        from_s, to_s = whole["range"]
        outside = np.ones(len(before), dtype=bool)
        outside[int((from_s - 0.05) * rate) : int((to_s + 0.05) * rate)] = False
        assert (before[outside] == after[outside]).all()
        assert not (before == after).all()

        undo = studio.page.get_by_role("button", name=re.compile("^Undo"))
        redo = studio.page.get_by_role("button", name=re.compile("^Redo"))
        num = 0
        while undo.is_enabled():
            studio.leave_field()
            studio.key("Control+z")
            num += 1
        empty = studio.kept()
        assert empty["takes"] == []
        assert empty["cues"] == []
        assert empty["prompt"] == ""
        assert num >= 6
        while redo.is_enabled():
            studio.key("Control+Shift+z")
        assert studio.kept() == whole
        studio.check_clean()


def typing_is_one_step_to_undo(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("")
        studio.prompt.press_sequentially("thunder", delay=20)
        studio.leave_field()
        studio.key("Control+z")
        assert studio.kept()["prompt"] == ""
        studio.key("Control+y")
        assert studio.kept()["prompt"] == "thunder"


def cues_are_drawn_moved_and_removed(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("", 4.0)
        studio.cue("a dog barks", 0.25, 0.5)
        (cue,) = studio.kept()["cues"]
        assert cue["prompt"] == "a dog barks"
        assert abs(cue["from_s"] - 1) < 0.05
        assert abs(cue["to_s"] - 2) < 0.05

        block = studio.page.locator("[data-cue]")
        box = block.bounding_box()
        track = studio.page.locator(".cue-track").bounding_box()
        assert box is not None
        assert track is not None
        for grip, by in ((box["width"] / 2, 0.25), (box["width"] - 3, 0.1)):
            place = block.bounding_box()
            assert place is not None
            studio.page.mouse.move(place["x"] + grip, place["y"] + 10)
            studio.page.mouse.down()
            studio.page.mouse.move(
                place["x"] + grip + by * track["width"], place["y"] + 10, steps=5
            )
            studio.page.mouse.up()
        (cue,) = studio.kept()["cues"]
        assert abs(cue["from_s"] - 2) < 0.06
        assert abs(cue["to_s"] - 3.4) < 0.06

        block.focus()
        studio.key("ArrowLeft", "ArrowLeft", "Alt+ArrowRight")
        (moved,) = studio.kept()["cues"]
        assert abs(moved["from_s"] - (cue["from_s"] - 0.1)) < 0.011
        assert abs(moved["to_s"] - (cue["to_s"] - 0.05)) < 0.011
        studio.key("Delete")
        assert studio.kept()["cues"] == []
        studio.key("Control+z")
        assert len(studio.kept()["cues"]) == 1
        studio.check_clean()


def a_moment_is_a_cue_too(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("", 4.0)
        box = studio.page.locator(".cue-track").bounding_box()
        assert box is not None
        studio.page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + 12)
        studio.page.keyboard.type("a door slams")
        studio.leave_field()
        studio.key("c")
        studio.page.keyboard.type("a bell rings")
        cues = studio.kept()["cues"]
        assert [cue["prompt"] for cue in cues] == ["a door slams", "a bell rings"]
        assert [cue["to_s"] for cue in cues] == [None, None]
        assert abs(cues[0]["from_s"] - 2) < 0.03
        assert cues[1]["from_s"] == 0
        studio.set_field("Cue 1 ends (empty: a moment)", "0:01.5")
        assert studio.kept()["cues"][1]["to_s"] == 1.5


def ranges_by_mouse_and_by_keys(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls", 2.0).make(1)
        studio.leave_field()
        studio.select(0.25, 0.75)
        assert np.allclose(studio.kept()["range"], [0.5, 1.5], atol=0.03)
        studio.key("Escape")
        assert studio.kept()["range"] is None
        studio.key("Home", "Shift+ArrowRight", "i", "End", "o")
        assert np.allclose(studio.kept()["range"], [1, 2], atol=0.01)
        studio.set_field("Range begins", "0:00.5")
        assert np.allclose(studio.kept()["range"], [0.5, 2], atol=0.01)
        studio.set_field("Range begins", "soon")
        assert np.allclose(studio.kept()["range"], [0.5, 2], atol=0.01)


def a_take_changes_while_it_plays(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls", 3.0).make(2)
        studio.leave_field()
        studio.key(" ")
        studio.page.wait_for_timeout(700)
        studio.key("2")
        studio.page.wait_for_timeout(500)
        assert studio.page.get_by_role("button", name="Pause").is_visible()
        studio.key(" ")
        text = studio.page.locator(".clock").inner_text()
        assert 0.7 < float(text.split("/")[0].split(":")[1]) < 3
        assert studio.heard == "B"
        studio.check_clean()


def what_is_seen_can_be_switched_off(browser: Browser, served: Served, folder: Path) -> None:
    """A chip of the bundled video, off: it is not sent, and comes back with undo."""
    from omni2sound.cli.demo import demo_video

    del folder
    with tab(browser, served) as studio:
        studio.film(demo_video())
        chip = studio.page.locator(".chip").first
        name = chip.inner_text()
        chip.click()
        assert studio.kept()["seenOff"] == [name]
        with studio.page.expect_request(
            lambda request: request.method == "POST" and request.url.endswith("/v1/jobs")
        ) as sent:
            studio.quick(steps=1).ask(1)
        assert sent.value.post_data_json["leave_out"] == [name]
        studio.page.get_by_role("button", name=re.compile("^Stop")).first.click()
        studio.says("Stopped", "status")
        chip.click()
        assert studio.kept()["seenOff"] == []


def _exported(studio: Studio, name: str, folder: Path, **choices: str) -> Path:
    studio.leave_field()
    studio.key("e")
    dialog = studio.page.get_by_role("dialog")
    dialog.get_by_label("File").select_option(name)
    for label, value in choices.items():
        dialog.get_by_label(label.replace("_", " ")).select_option(value)
    with studio.page.expect_download(timeout=WAIT_MS) as download:
        dialog.get_by_role("button", name="Export").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def exports_of_each_format(browser: Browser, served: Served, folder: Path) -> None:
    with tab(browser, served) as studio:
        studio.film(square_film(folder)).quick().make(1)
        for name in ("mp4", "mov", "mkv", "webm", "wav", "flac", "mp3", "opus", "ogg", "m4a"):
            path = _exported(studio, name, folder)
            assert path.suffix == f".{name}"
            with av.open(path) as file:
                assert bool(file.streams.video) == (name in ("mp4", "mov", "mkv", "webm"))
                assert len(file.streams.audio) == 1
        studio.check_clean()


def an_export_for_a_place_has_its_loudness(browser: Browser, served: Served, folder: Path) -> None:
    import pyloudnorm

    with tab(browser, served) as studio:
        studio.words("rain falls", 3.0).make(1)
        path = _exported(studio, "wav", folder, Loudness_for="podcast", Bits_a_sample="24")
        samples, rate = soundfile.read(path)
        assert soundfile.info(path).subtype == "PCM_24"
        assert abs(pyloudnorm.Meter(rate).integrated_loudness(samples) + 16) < 0.6


def work_is_stopped(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls", 20.0)
        studio.set_field("Steps", "100")
        studio.ask(1)
        studio.page.wait_for_timeout(700)
        studio.page.get_by_role("button", name=re.compile("^Stop")).click()
        studio.says("Stopped", "status")
        assert studio.num_takes == 0
        studio.set_field("Seconds", "1")
        studio.set_field("Steps", "1")
        studio.make(1)
        studio.check_clean()


def a_reload_in_the_middle_goes_on(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls", 4.0)
        studio.ask(2)
        studio.page.wait_for_timeout(200)
        studio.page.reload()
        expect(studio.takes).to_have_count(2, timeout=WAIT_MS)
        assert studio.prompt.input_value() == "rain falls"
        studio.page.reload()
        expect(studio.takes).to_have_count(2)
        studio.key("Control+z")
        expect(studio.takes).to_have_count(0)
        studio.check_clean()


def two_tabs_do_not_fight(browser: Browser, served: Served, folder: Path) -> None:
    """A duplicated tab goes on with a copy; what is typed in one stays in one."""
    del folder
    with tab(browser, served) as first:
        first.words("first")
        first.kept()
        with first.context.expect_page() as opened:
            first.page.evaluate("window.open(location.href, '_blank', 'popup')")
        second = Studio(first.context, served, opened.value)
        expect(second.prompt).to_have_value("first")
        second.prompt.fill("second")
        first.prompt.fill("first again")
        first.kept()
        second.kept()
        for studio in (first, second):
            studio.page.reload()
        expect(first.prompt).to_have_value("first again")
        expect(second.prompt).to_have_value("second")
        second.check_clean()


def a_closed_tab_comes_back(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as first:
        first.words("kept")
        first.kept()
        first.page.close()
        again = Studio(first.context, served).open()
        expect(again.prompt).to_have_value("kept")


def a_killed_server_comes_back(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls", 8.0)
        studio.set_field("Steps", "40")
        studio.ask(1)
        studio.page.wait_for_timeout(500)
        served.kill()
        studio.says("does not answer", "status")
        served.start()
        expect(studio.takes).to_have_count(1, timeout=WAIT_MS)
        expect(studio.page.get_by_text("does not answer")).to_have_count(0)


def a_slow_network_shows_how_far_it_is(browser: Browser, served: Served, folder: Path) -> None:
    with tab(browser, served) as studio:
        wire = studio.context.new_cdp_session(studio.page)
        slow = {
            "offline": False,
            "latency": 300,
            "downloadThroughput": 4e5,
            "uploadThroughput": 4e5,
        }
        wire.send("Network.emulateNetworkConditions", slow)
        path = folder / "noise.mp4"
        film = square_film(folder).read_bytes()
        path.write_bytes(film + bytes(2 * 10**6 - len(film)))
        studio.choose_file(path)
        studio.says(r"Sending noise.mp4: [1-9]\d? %", "status")
        studio.page.get_by_role("button", name="Cancel").click()
        expect(studio.page.locator(".uploading")).to_have_count(0)
        studio.film(square_film(folder)).quick().make(1)
        studio.check_clean()


def without_a_network_it_says_so(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("rain falls")
        studio.context.set_offline(True)
        studio.ask(1)
        studio.says("server does not answer")
        studio.context.set_offline(False)
        studio.make(1)


def nothing_to_make_is_a_sentence(browser: Browser, served: Served, folder: Path) -> None:
    del folder
    with tab(browser, served) as studio:
        studio.words("")
        studio.ask(1)
        studio.says("Write what is to be heard")
        studio.key("r")
        studio.leave_field()
        studio.key("r")
        studio.says("drag over the part")


def a_sound_is_opened_and_mended(browser: Browser, served: Served, folder: Path) -> None:
    path = folder / "noise.wav"
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 32000)
    soundfile.write(path, noise, 16000)
    with tab(browser, served) as studio:
        studio.choose_file(path)
        expect(studio.page.locator(".studio")).to_be_visible(timeout=WAIT_MS)
        studio.quick()
        studio.prompt.fill("a dog barks")
        studio.select(0.4, 0.7)
        studio.page.get_by_role("button", name=re.compile("Make new")).click()
        expect(studio.takes).to_have_count(1, timeout=WAIT_MS)
        studio.check_clean()


def a_picture_is_opened(browser: Browser, served: Served, folder: Path) -> None:
    from PIL import Image

    path = folder / "still.png"
    Image.new("RGB", (64, 48), "teal").save(path)
    with tab(browser, served) as studio:
        studio.choose_file(path)
        expect(studio.page.locator("img.picture")).to_be_visible(timeout=WAIT_MS)
        studio.quick(1.0)
        studio.prompt.fill("a dog barks")
        studio.make(1)
        studio.check_clean()


def stems_are_mixed_and_exported(browser: Browser, served: Served, folder: Path) -> None:
    """Two cues become two stems; the file is their sum as it was heard, without the muted one."""
    with tab(browser, served) as studio:
        studio.words("", 4.0)
        studio.cue("a bell rings", 0.6, 0.95)
        studio.cue("a dog barks", 0.05, 0.4)
        studio.page.get_by_label("Each cue and each thing seen by itself").check()
        studio.set_field("Steps", "8")  # fewer may leave silence
        studio.make(1)
        heads = studio.page.locator(".stem-head")
        texts = ("a dog barks", "a bell rings")  # in the order of their times
        made_as = studio.kept()["takes"][0]["stems"]
        names = sorted(made_as, key=lambda stem: [*texts, stem["text"]].index(stem["text"]))
        assert heads.locator(".stem-name").all_inner_texts()[:2] == list(texts)
        assert heads.count() == len(names) >= 2
        heads.nth(1).get_by_role("button", name=re.compile("^Mute")).click()
        heads.nth(0).get_by_label(re.compile("^Gain")).fill("-6")
        samples, _ = soundfile.read(_exported(studio, "wav", folder))
        gains = [10 ** (-6 / 20), 0.0] + [1.0] * (len(names) - 2)
        made = (
            gain * _samples(studio, stem, "float64")
            for gain, stem in zip(gains, names, strict=True)
        )
        assert np.abs(samples - sum(made)).max() < 2 / 2**15

        studio.leave_field()
        studio.key("e")
        with studio.page.expect_download() as download:
            studio.page.locator(".stem-links a").first.click()
        download.value.save_as(folder / "stem.wav")
        assert soundfile.info(folder / "stem.wav").subtype == "FLOAT"
        studio.key("Escape")

        heads.nth(0).get_by_role("button", name=re.compile("^Make")).click()
        expect(studio.takes).to_have_count(2, timeout=WAIT_MS)
        kept = studio.kept()
        old, new = (take["stems"] for take in kept["takes"])
        seeds = [(a["seed"], b["seed"]) for a, b in zip(old, new, strict=True)]
        assert [a != b for a, b in seeds] == [stem["text"] == texts[0] for stem in old]
        mixes = list(kept["mixes"].values())
        assert len(mixes) == 2
        assert mixes[0] == mixes[1]
        studio.select(0.25, 0.5)
        assert "a stem of its own" in studio.page.locator(".range-bar").inner_text()
        studio.page.get_by_role("button", name="Make new in B").click()
        expect(studio.takes).to_have_count(3, timeout=WAIT_MS)
        kept = studio.kept()
        mended = kept["takes"][2]
        assert [stem["anew"] for stem in mended["stems"]] == [*(True for _ in new), False]
        assert kept["mixes"][mended["id"]] == mixes[0]
        studio.check_clean()


def keys_alone_are_enough(browser: Browser, served: Served, folder: Path) -> None:
    """From the first sight to an exported sound without a mouse."""
    del folder
    with tab(browser, served) as studio:
        studio.page.get_by_role("button", name="Begin with words alone").focus()
        studio.key("Enter")
        studio.prompt.focus()
        studio.page.keyboard.type("a dog barks")
        studio.key("Control+Enter")
        expect(studio.takes).to_have_count(2, timeout=WAIT_MS)
        studio.leave_field()
        studio.key("2", " ", " ", "?")
        expect(studio.page.get_by_role("dialog")).to_be_visible()
        studio.key("Escape")
        expect(studio.page.get_by_role("dialog")).to_have_count(0)
        studio.key("e")
        with studio.page.expect_download(timeout=WAIT_MS):
            studio.page.get_by_role("dialog").get_by_role("button", name="Export").press("Enter")
        studio.check_clean()


def colours_follow_the_system_and_the_switch(
    browser: Browser, served: Served, folder: Path
) -> None:
    del folder
    for scheme, other in (("dark", "light"), ("light", "dark")):
        with tab(browser, served, scheme=scheme) as studio:
            root = studio.page.locator("html")
            expect(root).to_have_attribute("data-theme", scheme)
            studio.key("d")
            expect(root).to_have_attribute("data-theme", other)
            studio.page.reload()
            expect(root).to_have_attribute("data-theme", other)


def a_phone_is_for_listening(browser: Browser, served: Served, folder: Path) -> None:
    with tab(browser, served, width=390) as studio:
        studio.film(square_film(folder)).quick().make(2)
        wide = studio.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{wide} pixels on a screen of 390"
        group = studio.page.locator(".take-switch")
        group.get_by_role("button", name="B").click()
        expect(group.get_by_role("button", name="B")).to_have_attribute("aria-pressed", "true")
        studio.page.get_by_role("button", name="Play").click()
        studio.page.wait_for_timeout(300)
        studio.page.get_by_role("button", name="Pause").click()
        studio.check_clean()


def axe_finds_nothing_serious(browser: Browser, served: Served, folder: Path) -> None:
    if not AXE.exists():
        raise RuntimeError("axe-core is not installed; run: make page")
    found = []
    with tab(browser, served) as studio:
        found += studio.axe()
        studio.film(square_film(folder)).quick().make(2)
        studio.cue("a dog barks", 0.1, 0.4)
        studio.leave_field()
        studio.select(0.5, 0.9)
        for _ in ("dark", "light"):
            for dialog in ("", "e", "?"):
                if dialog:
                    studio.key(dialog)
                found += studio.axe()
                if dialog:
                    studio.key("Escape")
            studio.select(0.5, 0.9)
            studio.key("d")
        studio.page.set_viewport_size({"width": 390, "height": 844})
        found += studio.axe()
        studio.check_clean()
    assert not found, found


def a_token_in_the_address_opens_it(browser: Browser, served: Served, folder: Path) -> None:
    del served
    secret = "0123456789abcdef0123"
    locked = Served(folder / "locked", "--token", secret)
    try:
        with tab(browser, locked) as stranger:
            stranger.says("token")
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{locked.address}#token={secret}")
        expect(page.get_by_text("The model knows")).to_be_visible(timeout=WAIT_MS)
        assert secret not in page.url
        context.close()
    finally:
        locked.stop()


def a_browser_that_keeps_nothing_still_works(
    browser: Browser, served: Served, folder: Path
) -> None:
    del folder
    context = browser.new_context()
    context.add_init_script("Storage.prototype.setItem = () => { throw new Error('full') }")
    studio = Studio(context, served).open()
    studio.words("rain falls").make(1)
    studio.check_clean()
    context.close()


FLOWS: tuple[Flow, ...] = (
    a_dropped_film_is_looked_at,
    a_chosen_film_gets_two_takes_beside_each_other,
    a_wrong_file_is_a_sentence,
    a_huge_file_is_refused_before_it_is_sent,
    two_files_at_once_are_one,
    a_session_is_undone_and_done_again,
    typing_is_one_step_to_undo,
    cues_are_drawn_moved_and_removed,
    a_moment_is_a_cue_too,
    ranges_by_mouse_and_by_keys,
    a_take_changes_while_it_plays,
    what_is_seen_can_be_switched_off,
    exports_of_each_format,
    an_export_for_a_place_has_its_loudness,
    work_is_stopped,
    a_reload_in_the_middle_goes_on,
    two_tabs_do_not_fight,
    a_closed_tab_comes_back,
    a_killed_server_comes_back,
    a_slow_network_shows_how_far_it_is,
    without_a_network_it_says_so,
    nothing_to_make_is_a_sentence,
    a_sound_is_opened_and_mended,
    a_picture_is_opened,
    stems_are_mixed_and_exported,
    keys_alone_are_enough,
    colours_follow_the_system_and_the_switch,
    a_phone_is_for_listening,
    axe_finds_nothing_serious,
    a_token_in_the_address_opens_it,
    a_browser_that_keeps_nothing_still_works,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="Part of a walk's name. Default: all walks.")
    args = parser.parse_args()
    if missing := available():
        sys.exit(missing)
    failed = 0
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        served = Served(Path(name) / "served")
        for number, flow in enumerate(FLOWS):
            if args.only.replace(" ", "_") not in flow.__name__:
                continue
            folder = Path(name) / str(number)
            folder.mkdir()
            start = time.monotonic()
            try:
                flow(browser, served, folder)
                told = "ok"
            except Exception as error:
                failed += 1
                told = f"FAILED: {str(error)[:400]}"
            print(f"{time.monotonic() - start:5.1f} s  {flow.__name__.replace('_', ' ')}: {told}")
        served.stop()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
