"""How soon the studio page can be used, and how smoothly ten minutes of waveform scroll.

Run: python -m benchmarks.speed.page

In headless Chromium, which draws on the processor: `interactive` is a mark that the page sets when
it is drawn and keys work, counted from the start of the navigation; frames are the `DrawFrame`
events of a Chromium trace while every frame scrolls 24 pixels further.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from playwright.sync_api import Browser, expect

from benchmarks.checks.page_driver import Served, Studio, available, chromium, tab

MINUTES = 10
RATE_HZ = 16_000
ZOOMS = 8
SCROLL = """(seconds) => new Promise((done) => {
  const scroller = document.querySelector('.scroller'), start = performance.now();
  const from = scroller.scrollLeft;
  const step = (now) => {
    scroller.scrollLeft += 24;
    if (now - start < 1000 * seconds) requestAnimationFrame(step);
    else done(scroller.scrollLeft - from);
  };
  requestAnimationFrame(step);
})"""
INTERACTIVE = "performance.getEntriesByName('interactive')[0].startTime / 1000"
FRAMES = ["disabled-by-default-devtools.timeline.frame", "devtools.timeline.frame"]


def long_sound(folder: Path) -> Path:
    """Ten minutes of noise whose level changes, as a sound file."""
    rng = np.random.default_rng(0)
    num_samples = MINUTES * 60 * RATE_HZ
    level_N = np.repeat(rng.uniform(0, 0.5, MINUTES * 240), RATE_HZ // 4)
    path = folder / "ten-minutes.wav"
    soundfile.write(path, level_N * rng.uniform(-1, 1, num_samples), RATE_HZ)
    return path


def interactive_s(studio: Studio, repeats: int) -> list[float]:
    """Seconds from the start of each navigation to a page that can be used."""
    times = []
    for _ in range(repeats):
        studio.page.reload()
        expect(studio.page.locator("h1")).to_be_visible()
        times.append(float(studio.page.evaluate(INTERACTIVE)))
    return times


def frames_per_second(browser: Browser, studio: Studio, seconds: float) -> tuple[float, float]:
    """Frames a second while it scrolls, and the distance in pixels."""
    browser.start_tracing(page=studio.page, categories=FRAMES)
    distance = float(studio.page.evaluate(SCROLL, seconds))
    events: list[dict[str, Any]] = json.loads(browser.stop_tracing())["traceEvents"]
    drawn = sorted(event["ts"] for event in events if event["name"] == "DrawFrame")
    return (len(drawn) - 1) / ((drawn[-1] - drawn[0]) / 1e6), distance


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5, help="Navigations. Default: 5.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Of scrolling. Default: 5.")
    args = parser.parse_args()
    if missing := available():
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        served = Served(Path(name) / "served", "--max-upload", "50")
        try:
            with tab(browser, served) as studio:
                empty = statistics.median(interactive_s(studio, args.repeats))
                studio.choose_file(long_sound(Path(name)))
                expect(studio.page.locator(".studio")).to_be_visible(timeout=60_000)
                studio.page.wait_for_timeout(1500)  # its peaks
                full = statistics.median(interactive_s(studio, args.repeats))
                for _ in range(ZOOMS):
                    studio.page.get_by_role("button", name="Zoom in").click()
                studio.page.wait_for_timeout(1000)
                rate, distance = frames_per_second(browser, studio, args.seconds)
        finally:
            served.stop()
    print(f"interactive: empty {empty:.2f} s, with a session {full:.2f} s (median)")
    print(f"waveform of {MINUTES} minutes: {rate:.0f} frames/s over {distance:.0f} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
