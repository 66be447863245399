"""Does a fingerprint know a copy of a recording, and tell other recordings apart?

    python benchmarks/checks/near_duplicates.py --corpus CORPUS [--limit 80]

Takes one recording of each family of the scene material (`omni2sound scenes fetch`), looks
for pairs among them, and then for changed copies of those of 1.5 s and longer. Prints how many
copies were found, how many other recordings were taken for one, and the share of wrong bits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.data.corpora.finding.fingerprint import (
    SAMPLE_RATE_HZ,
    FingerprintIndex,
    fingerprint,
)
from omni2sound.media import Audio, read_audio, write_audio

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def through(folder: Path, suffix: str) -> Change:
    def change(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
        path = folder / f"copy{suffix}"
        audio = Audio(samples_CN=waveform_N[None], sample_rate_hz=SAMPLE_RATE_HZ)
        write_audio(path, audio, overwrite=True)
        return read_audio(path, sample_rate_hz=SAMPLE_RATE_HZ, mono=True).samples_CN[0]

    return change


def with_noise(snr_db: float) -> Change:
    def change(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
        noise_N = np.random.default_rng(0).standard_normal(len(waveform_N))
        level = np.sqrt(np.square(waveform_N).mean()) * 10 ** (-snr_db / 20)
        return (waveform_N + level * noise_N).astype(np.float32)

    return change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=80)
    given = parser.parse_args()
    recordings = json.loads((given.corpus / "catalogue.json").read_text(encoding="utf-8"))
    paths: dict[str, Path] = {}
    for r in sorted(recordings["recordings"], key=lambda r: str(r["recording_id"])):
        path = given.corpus / "recordings" / f"{r['recording_id']}.flac"
        if path.is_file() and r["end_s"] - r["start_s"] > 1:
            paths.setdefault(r["family"], path)
    names = [p.stem for p in paths.values()]
    waves = [
        read_audio(p, sample_rate_hz=SAMPLE_RATE_HZ, mono=True).samples_CN[0]
        for p in paths.values()
    ]
    begin = time.process_time()
    prints = [fingerprint(w) for w in waves]
    took = (time.process_time() - begin) / sum(len(w) / SAMPLE_RATE_HZ for w in waves)
    print(f"{len(waves)} recordings, one a family; {1000 * took:.1f} ms of CPU a second of sound")
    index = FingerprintIndex(prints)
    for m in index.matches(enumerate(prints)):
        print(
            f"  pair: {names[m.first]}, {names[m.second]}: {m.overlap_s:.1f} s, "
            f"{100 * m.bit_errors:.0f} % of bits differ"
        )
    long = [i for i, w in enumerate(waves) if len(w) >= 1.5 * SAMPLE_RATE_HZ][: given.limit]
    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Change] = {
            "as it is": lambda w: w,
            "gain -12 dB": lambda w: w / 4,
            "mp3": through(Path(folder), ".mp3"),
            "m4a": through(Path(folder), ".m4a"),
            "opus": through(Path(folder), ".opus"),
            "begins 0.3 s later": lambda w: w[2437:],
            "noise at 20 dB": with_noise(20),
            "noise at 10 dB": with_noise(10),
        }
        for name, change in changes.items():
            found, others, errors = 0, 0, []
            for i in long:
                matches = {
                    m.first: m for m in index.matches([(len(waves), fingerprint(change(waves[i])))])
                }
                others += sum(j != i for j in matches)
                if i in matches:
                    found += 1
                    errors.append(matches[i].bit_errors)
            print(
                f"{name:20} found {found} of {len(long)}, others {others}, "
                f"wrong bits {100 * float(np.median(errors)):.1f} %"
            )


if __name__ == "__main__":
    main()
