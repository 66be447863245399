"""The studio page as a user handles it: a real server, headless Chromium, mouse and keys.

In:   a folder for the server's files; films made here.
Out:  `Served`, a server in its own process; `Studio`, one tab with the page.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.build import video_with_square

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
AXE = ROOT / "web" / "studio" / "node_modules" / "axe-core" / "axe.min.js"
UPLOAD_MB = 4
WAIT_MS = 90_000
"""For sound: two processors may be shared by several test processes."""

_DROP = """([name, data, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const files = new DataTransfer();
  for (const one of name.split('|')) files.items.add(new File([bytes], one, { type }));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.body.dispatchEvent(
      new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
}"""


class Served:
    """`omni2sound serve` in a process of its own, with the bundled model."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, 0
        self.start()

    def start(self) -> None:
        """Start it, on the port it had before, and wait until it can work."""
        command = [sys.executable, "-m", "omni2sound", "serve", "--folder", str(self.folder)]
        command += ["--port", str(self.port), "--max-upload", str(UPLOAD_MB), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.printed = self.process.stdout.readline().strip()
        found = re.match(r"http://127\.0\.0\.1:(\d+)/", self.printed)
        assert found, f"the server printed {self.printed!r}"
        self.port, self.address = int(found[1]), found[0]
        deadline = time.monotonic() + 120
        while (health := self._health()) != "ready":
            if health == "failed" or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server is {health}")
            time.sleep(0.2)

    def _health(self) -> str:
        with urllib.request.urlopen(f"{self.address}v1/health") as answer:
            return str(json.load(answer)["status"])

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()


class Studio:
    """One tab with the page; what it asks of other sites and what it complains of is kept."""

    def __init__(self, context: BrowserContext, served: Served, page: Page | None = None) -> None:
        self.context, self.served = context, served
        self.page = page or context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)

    def _console(self, message: Any) -> None:
        # A refused upload is a failed request, and meant.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def open(self) -> Studio:
        self.page.goto(self.served.address)
        expect(self.page.locator("h1")).to_be_visible()
        return self

    def choose_file(self, path: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(path)

    def drop(self, data: bytes, name: str, kind: str = "video/mp4") -> None:
        """Drop a file; `name` may be several names parted by |."""
        encoded = base64.b64encode(data).decode()
        self.page.evaluate(_DROP, [name, encoded, kind])

    def film(self, path: Path) -> Studio:
        """Drop a film and wait until it was looked at."""
        self.drop(path.read_bytes(), path.name)
        expect(self.page.locator(".studio")).to_be_visible(timeout=WAIT_MS)
        expect(self.page.get_by_text("Looking at the video")).to_have_count(0, timeout=WAIT_MS)
        return self

    def words(self, prompt: str = "a dog barks", seconds: float = 1.0) -> Studio:
        """Begin without a film, with a short sound in few steps."""
        self.page.get_by_role("button", name="Begin with words alone").click()
        self.quick(seconds)
        self.prompt.fill(prompt)
        return self

    def quick(self, seconds: float | None = None, steps: int = 2) -> Studio:
        """Set few steps, and the length of a sound without a film."""
        self.page.get_by_text("More settings").click()
        if seconds is not None:
            self.set_field("Seconds", str(seconds))
        self.set_field("Steps", str(steps))
        return self

    def set_field(self, label: str, text: str) -> None:
        field = self.page.get_by_label(label, exact=True)
        field.fill(text)
        field.press("Tab")

    def make(self, takes: int = 1) -> Studio:
        """Make takes and wait for them."""
        before = self.num_takes
        self.ask(takes)
        expect(self.takes).to_have_count(before + takes, timeout=WAIT_MS)
        return self

    def ask(self, takes: int = 1) -> None:
        less = self.page.get_by_role("button", name="One take less")
        while less.is_enabled():
            less.click()
        for _ in range(takes - 1):
            self.page.get_by_role("button", name="One take more").click()
        self.page.get_by_role("button", name=re.compile("^Make")).first.click()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_role("textbox", name="Prompt")

    @property
    def takes(self) -> Locator:
        return self.page.locator(".take-head .take-letter", has_text=re.compile("^[A-Z]"))

    @property
    def num_takes(self) -> int:
        return self.takes.count()

    @property
    def heard(self) -> str:
        """Letter of the take that is chosen, or 0 for the film's own sound."""
        return self.page.locator(".take-letter[aria-pressed=true]").inner_text()

    def key(self, *names: str) -> None:
        for name in names:
            self.page.keyboard.press(name)

    def leave_field(self) -> None:
        """Take the focus out of text fields, so that keys are the page's."""
        self.page.evaluate("document.activeElement.blur()")

    def drag(self, lane: Locator, start: float, end: float) -> None:
        """Drag along a lane, from one part of its width to another."""
        box = lane.bounding_box()
        assert box is not None
        middle = box["y"] + min(12, box["height"] / 2)
        self.page.mouse.move(box["x"] + start * box["width"], middle)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + end * box["width"], middle + 1, steps=6)
        self.page.mouse.up()

    def select(self, start: float, end: float) -> None:
        """Select a part of the first take."""
        lane = self.page.locator(".row-take", has=self.page.locator("canvas")).first
        self.drag(lane, start, end)
        expect(self.page.get_by_role("group", name="Selected range")).to_be_visible()

    def cue(self, prompt: str, start: float, end: float) -> None:
        """Drag a cue over the track and type its words."""
        self.drag(self.page.locator(".cue-track"), start, end)
        self.page.keyboard.type(prompt)

    def kept(self) -> dict[str, Any]:
        """The document as this browser keeps it."""
        self.page.wait_for_timeout(300)
        return self.page.evaluate(
            "JSON.parse(localStorage['omni2sound.session.' +"
            " sessionStorage['omni2sound.session.']]).doc"
        )

    def says(self, pattern: str, role: str = "alert") -> None:
        """Wait for a sentence of the page."""
        found = self.page.get_by_role(role).filter(has_text=re.compile(pattern))
        expect(found.first).to_be_visible(timeout=WAIT_MS)

    def axe(self) -> list[str]:
        """Faults in accessibility that axe-core calls serious or critical."""
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        return [
            f"{fault['id']}: {fault['nodes'][0]['html']} ({len(fault['nodes'])})"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]

    def check_clean(self) -> None:
        """Fail if the page asked another site, or complained."""
        foreign = [
            url
            for url in self.requests
            if not url.startswith((self.served.address, "blob:", "data:"))
        ]
        assert not foreign, foreign
        assert not self.complaints, self.complaints


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium, in which sound may begin without a click."""
    options = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox", "--mute-audio"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@contextmanager
def tab(
    browser: Browser, served: Served, width: int = 1440, scheme: Any = "dark"
) -> Iterator[Studio]:
    """A new browser profile with the page open."""
    size: Any = {"width": width, "height": 844 if width < 500 else 900}
    context = browser.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
    yield Studio(context, served).open()
    context.close()


def square_film(folder: Path, seconds: float = 2.0) -> Path:
    """A film of a moving square, in a format that a browser does not play."""
    return video_with_square(folder / "square.mp4", duration_s=seconds)


def available() -> str | None:
    """Say what is missing, or None."""
    return None if CHROMIUM.exists() else f"{CHROMIUM} is not installed"


Flow = Callable[[Browser, Served, Path], None]
