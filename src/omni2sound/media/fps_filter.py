"""Pictures as ffmpeg's `fps` filter gives them, for comparisons with tools that use it.

In:   a video, a frame rate.
Out:  RGB arrays (H, W, 3), uint8, as stored: neither rotation nor pixel shape is applied.

`video.iter_frames` is what the package itself sees with. The two agree except where a picture
changes exactly in the middle of an interval (at 12 fps, say): the filter still shows the old
one. What not to get wrong: the filter ends with the video, so a short one gives fewer pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.video.stream import VideoStream
from numpy.typing import NDArray

from omni2sound.errors import MediaError
from omni2sound.media.files import open_input, shown_name
from omni2sound.media.info import probe


def iter_filtered_frames(path: Path, *, fps: Fraction | int) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures at a constant rate.

    Raises:
        MediaError: The file has no picture that can be decoded.
    """
    info = probe(path)
    if info.video is None:
        raise MediaError(f"{shown_name(path)}: has no picture; give a video")
    with open_input(path) as container:
        stream = container.streams[info.video.index]
        assert isinstance(stream, VideoStream)
        graph = Graph()
        graph.link_nodes(
            graph.add_buffer(template=stream),
            graph.add("fps", str(fps)),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
        for packet in chain(info.timeline.read_packets(container, stream), [None]):
            for frame in stream.decode(packet):
                graph.push(frame)
                yield from _ready(graph)
        graph.push(None)
        yield from _ready(graph)


def _ready(graph: Graph) -> Iterator[NDArray[np.uint8]]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield np.asarray(frame.to_ndarray(), dtype=np.uint8)
