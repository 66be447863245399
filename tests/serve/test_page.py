"""The page in headless Chromium, with the real server and the bundled model.

Fewer and shorter walks than `python -m benchmarks.checks.page_flows`, whose parts they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from benchmarks.checks import page_flows as flows
from benchmarks.checks.page_driver import AXE, Flow, Served, available, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available() is not None, reason=available() or ""),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served") / "folder")
    yield served
    served.stop()


@pytest.mark.parametrize(
    "flow",
    [
        flows.a_wrong_file_is_a_sentence,
        flows.a_huge_file_is_refused_before_it_is_sent,
        flows.a_session_is_undone_and_done_again,
        flows.cues_are_drawn_moved_and_removed,
        flows.work_is_stopped,
        flows.two_tabs_do_not_fight,
    ],
    ids=lambda flow: flow.__name__,
)
def test_a_walk(flow: Flow, browser: Browser, served: Served, tmp_path: Path) -> None:
    flow(browser, served, tmp_path)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (make page)")
def test_nothing_serious_for_axe(browser: Browser, served: Served, tmp_path: Path) -> None:
    flows.axe_finds_nothing_serious(browser, served, tmp_path)
