"""The page of `omni2sound try` as a user handles it, in headless Chromium.

In:   an address at which the site is served.
Out:  `TryPage`: one tab, whose sounds come from the file that it lets users save.
"""

from __future__ import annotations

import base64
import re
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

WAIT_MS = 300_000
"""For the model and its sounds: processors may be shared by several test processes."""
_KEEP_WORKER = """window.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    window.kept = this;
    this.addEventListener('message', ({ data }) => {
      if (data.kind === 'made') window.made = new Uint8Array(data.samples.slice().buffer);
    });
  }
};"""
_MADE = "btoa(window.made.reduce((text, byte) => text + String.fromCharCode(byte), ''))"
_ORDER = """([vision, sync, order]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const pictures = { vision: bytes(vision), sync: bytes(sync), syncFps: order.syncFps };
  document.querySelector('#status').textContent = '';
  window.kept.postMessage({ ...order, kind: 'make', pictures });
}"""


class TryPage:
    """One tab; requests to other sites and complaints are kept."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.add_init_script(_KEEP_WORKER)
        page.goto(address)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "blob:")):
            self.foreign.append(request.url)

    def load(self) -> float:
        """Load the model; returns the megabytes that the page said it would load."""
        size = self.page.locator("#size")
        expect(size).to_contain_text("have to be loaded", timeout=WAIT_MS)
        found = re.search(r"of which (\d+) MB", size.inner_text())
        assert found is not None
        self.page.get_by_role("button", name="Load the model").click()
        expect(self.page.locator("#form")).to_be_visible(timeout=WAIT_MS)
        return float(found[1])

    def make(
        self, prompt: str, *, seed: int, seconds: float | None = None, film: Path | None = None
    ) -> float:
        """Ask for a sound and wait until it is there; returns the seconds from click to sound."""
        self.page.get_by_label("What should be heard").fill(prompt)
        if film is not None:
            self.page.locator("#file").set_input_files(film)
            self.page.wait_for_timeout(500)  # until its length is known
        if seconds is not None:
            self.page.get_by_label("Seconds", exact=True).fill(f"{seconds:g}")
        self.page.get_by_label("Seed").fill(str(seed))
        begin = time.monotonic()
        self.page.get_by_role("button", name="Make the sound").click()
        expect(self.page.locator("#make")).to_be_enabled(timeout=WAIT_MS)
        took_s = time.monotonic() - begin
        expect(self.page.locator("#status")).to_contain_text("s of sound.")
        return took_s

    def save(self, to: Path) -> NDArray[np.float32]:
        """Save the sound as a user does, and read it: samples (N,)."""
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name="Download").click()
        download.value.save_as(to)
        with wave.open(str(to)) as file:
            whole_N = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return whole_N.astype(np.float32) / 32768

    def samples(self) -> NDArray[np.float32]:
        """The last sound before it is rounded to a file's 16 bits: samples (N,)."""
        return np.frombuffer(base64.b64decode(self.page.evaluate(_MADE)), "<f4")

    def make_for_pictures(
        self, vision: bytes, sync: bytes, *, sync_fps: float, seconds: float, seed: int
    ) -> None:
        """Have the page's worker make a sound for these pictures, uint8 RGB; no film is decoded."""
        texts = [base64.b64encode(data).decode() for data in (vision, sync)]
        order = {"prompt": "", "seconds": seconds, "seed": seed, "syncFps": sync_fps}
        self.page.evaluate(_ORDER, [*texts, order])
        expect(self.page.locator("#status")).to_contain_text("s of sound.", timeout=WAIT_MS)


@contextmanager
def try_page(browser: Browser, address: str, width: int = 1280) -> Iterator[TryPage]:
    """A new browser profile with the page open."""
    size: Any = {"width": width, "height": 844 if width < 500 else 900}
    context = browser.new_context(viewport=size, accept_downloads=True)
    yield TryPage(context.new_page(), address)
    context.close()


def difference_db(made_N: NDArray[np.floating], wanted_N: NDArray[np.floating]) -> float:
    """Power of the difference over that of what is wanted, in decibels."""
    assert made_N.shape == wanted_N.shape, (made_N.shape, wanted_N.shape)
    error, power = (float(np.mean(np.square(x))) for x in (made_N - wanted_N, wanted_N))
    return 10 * float(np.log10(error / power))
