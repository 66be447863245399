"""Channel layouts: which loudspeaker each channel of a sound is meant for.

In:   names of layouts as FFmpeg writes them ("5.1(side)", "FL+FR+LFE"), counts of channels.
Out:  names of channels in order, the layout of a mix, the layout in which a codec can hold one.

What not to get wrong: a layout that a file doesn't state is a guess, and says so. Three channels
are left, right and centre: a centre written as a subwoofer loses the speech in it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from functools import lru_cache

import av

ASSUMED = {
    1: "mono",
    2: "stereo",
    3: "3.0",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}
"""Layout of a sound that states none, by its number of channels."""
_ORDER = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
"""Order of channels in every layout that has a name (that of WAVE_FORMAT_EXTENSIBLE)."""
_TO_BACK = {"SL": "BL", "SR": "BR"}
_TO_SIDE = {back: side for side, back in _TO_BACK.items()}


@lru_cache(maxsize=64)
def channel_names(layout: str) -> tuple[str, ...]:
    """Return the channels of a layout in order, such as ("FL", "FR", "FC", "LFE", "BL", "BR").

    Raises:
        ValueError: There is no such layout.
    """
    return tuple(channel.name for channel in av.AudioLayout(layout).channels)


def named_layout(names: Iterable[str]) -> str | None:
    """Return the layout with these channels, in the standard order; None if it can have no name.

    Args:
        names: Channels in any order, each once.
    """
    names = list(names)
    if not names or len(set(names)) < len(names) or not set(names) <= set(_ORDER):
        return None
    if len(names) == 1:
        return "mono"
    ordered = sorted(names, key=_ORDER.index)
    found = str(av.AudioLayout("+".join(ordered)).name)
    return "+".join(ordered) if " channels" in found else found


def safe(layout: av.AudioLayout) -> av.AudioLayout:
    """Return the layout of a stream or frame, which must pass through here each time it is taken.

    PyAV 18 lends the channel map of an order of the file's own and frees it as if it were its own:
    the process aborts. Such a layout is kept for good. PyAV 19 copies the map.
    """
    if " channels (" in layout.name:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return layout


def stated_layout(layout: av.AudioLayout) -> tuple[str | None, Sequence[int]]:
    """Read what a file says about its channels.

    Args:
        layout: From `safe`; it may name no channels, or name them in an order of its own.

    Returns:
        The layout in the standard order, and for each of its channels the channel of the file; None
        and the file's own order where the file doesn't say, or says what has no loudspeakers.
    """
    names = [channel.name for channel in layout.channels]
    if names == ["DL", "DR"]:  # a stereo downmix
        return "stereo", (0, 1)
    found = named_layout(names)
    if found is None:
        return None, range(len(names))
    return found, sorted(range(len(names)), key=lambda c: _ORDER.index(names[c]))


def mixed_layout(*layouts: str) -> str | None:
    """Return the layout that holds every channel of all of them; None if there is no such.

    One channel belongs to no loudspeaker of its own: in a mix it is heard from left and right.
    """
    several = [layout for layout in layouts if len(channel_names(layout)) > 1]
    if not several:
        return "mono"
    names = {name for layout in several for name in channel_names(layout)}
    if len(several) < len(layouts):
        names |= {"FL", "FR"}
    parts = [set(channel_names(layout)) for layout in several]
    if names >= {"SL", "BL"} and not any(part >= {"SL", "BL"} for part in parts):
        # "Back" and "side" are two words for the one pair of surrounds that each part has.
        names = {_TO_BACK.get(name, name) for name in names}
    return named_layout(names)


def place(layout: str, target: str) -> tuple[int, ...]:
    """Return for each channel of `layout` its place in `target`; -1 where it has none."""
    places = channel_names(target)
    found = []
    for name in channel_names(layout):
        others = (name, _TO_BACK.get(name, name), _TO_SIDE.get(name, name))
        found.append(next((places.index(other) for other in others if other in places), -1))
    return tuple(found)


def layout_held(layout: str, held: Sequence[str] | None) -> str | None:
    """Return the layout in which a codec stores a sound without loss; None if there is none.

    That is the layout itself, the same one with its surrounds called by the other name, or the
    smallest one that has all channels and some that stay silent.

    Args:
        layout: The sound's.
        held: Layouts of the codec. None: any that has a name.
    """
    if held is None or layout in held:
        return layout
    fitting = []
    for other in held:
        places = place(layout, other)
        one_to_one = len(set(places)) == len(places) and -1 not in places
        # A codec for stereo must not take one channel for its left one.
        if one_to_one and len(places) > 1:
            fitting.append(other)
    return min(fitting, key=lambda other: len(channel_names(other)), default=None)
