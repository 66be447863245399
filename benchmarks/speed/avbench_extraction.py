"""Extraction of avbench-8s-v1's features of sounds, beside av-benchmark's own script.

    python -m benchmarks.speed.avbench_extraction CLONE [--clips 16] [--batch 8] [--rounds 3]

Both sides read the same WAV files of 8 s and 44.1 kHz and run the same networks at published sizes
with random weights, on the CPU, with one thread: PANNs, VGGish, PaSST, Synchformer (sounds) and the
sound halves of ImageBind and LAION-CLAP. Theirs is `av_bench.extract.extract` as it stands, in one
process; ours is `embed_sounds`. CLONE is a folder of hkchengrex/av-benchmark at commit 050a5cd; the
packages of `make parity` are needed, too ($OMNI2SOUND_PARITY names another folder of them).

What differs from their environment: `torchaudio.load` reads by soundfile, since torchaudio's own
reader needs torchcodec; ImageBind's other halves are small, as they are not used; Microsoft's CLAP,
which this protocol does not have, answers at once. Printed are seconds of processor time and their
ratio, round by round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import types
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from benchmarks.parity._upstream import AV_BENCHMARK, av_benchmark, laion_clap, originals
from omni2sound.bench.metrics.avbench.clips import Networks, embed_sounds
from omni2sound.encoders.metric.clap import Clap, ClapShape, build_clap
from omni2sound.encoders.metric.imagebind import ImageBind, ImageBindNetwork, ImageBindShape
from omni2sound.encoders.metric.panns import Cnn14, Panns
from omni2sound.encoders.metric.passt import Passt, PasstConfig, PasstNetwork
from omni2sound.encoders.metric.synchformer import (
    Synchformer,
    SynchformerConfig,
    SynchformerNetwork,
)
from omni2sound.encoders.metric.vggish import Vggish, VggishNetwork
from tests.encoders.metric.test_published_judges import words

RATE_HZ = 44_100
UNUSED = {
    f"{kind}_{what}": value
    for kind, size in (("vision", 160), *((k, 32) for k in ("text", "depth", "thermal", "imu")))
    for what, value in (("embed_dim", size), ("num_blocks", 1), ("num_heads", size // 32))
}
"""ImageBind's halves that hear nothing, made small."""


def write_sounds(folder: Path, count: int) -> list[Path]:
    """Write noise of 8 s."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:04d}.wav" for number in range(count)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.standard_normal(8 * RATE_HZ), RATE_HZ, subtype="PCM_16")
    return paths


def our_networks() -> Networks:
    """Published sizes, random weights."""
    bind = ImageBindShape(vision_width=160, vision_depth=1, vision_heads=5)
    return Networks(
        panns=Panns(Cnn14().eval()),
        passt=Passt(PasstNetwork(PasstConfig()).eval()),
        vggish=Vggish(VggishNetwork().eval()),
        clap=Clap(build_clap(ClapShape(text_depth=1, vocabulary=300)), words()),
        sync=Synchformer(SynchformerNetwork(SynchformerConfig()).eval()),
        imagebind=ImageBind(ImageBindNetwork(bind).eval()),
    )


class TheirClap(nn.Module):
    """`CLAP_Module` without what reads its training data: repeated, padded, embedded."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def get_audio_embedding_from_data(self, x: Tensor, use_tensor: bool) -> Tensor:
        assert use_tensor
        padded = nn.functional.pad(x, (0, 480_000 - x.shape[1]))
        found: Tensor = self.network.get_audio_embedding([{"waveform": one} for one in padded])
        return found


class TheirModels(nn.Module):
    """`ExtractionModels` with random weights."""

    def __init__(self) -> None:
        super().__init__()
        from av_bench.panns import Cnn14 as TheirCnn14
        from av_bench.synchformer.synchformer import Synchformer as TheirSynchformer
        from av_bench.vggish.vggish import VGGish
        from hear21passt.models.passt import PaSST
        from hear21passt.models.preprocess import AugmentMelSTFT
        from hear21passt.wrapper import PasstBasicWrapper
        from imagebind.models.imagebind_model import ImageBindModel
        from torchaudio.transforms import MelSpectrogram

        # It fetches its weights where it is built; here nothing is fetched or read.
        with (
            mock.patch.object(os, "system"),
            mock.patch.object(torch, "load", return_value={"model": {}}),
            mock.patch.object(TheirCnn14, "load_state_dict"),
        ):
            self.panns = TheirCnn14(
                features_list=["2048", "logits"],
                sample_rate=16_000,
                window_size=512,
                hop_size=160,
                mel_bins=64,
                fmin=50,
                fmax=8000,
                classes_num=527,
            )
        self.vggish = VGGish(pretrained=False, postprocess=False)
        bands = AugmentMelSTFT(
            n_mels=128, sr=32_000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192,
            htk=False, fmin=0.0, fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000,
        )  # fmt: skip
        transformer = PaSST(
            stride=10, img_size=(128, 998), embed_dim=768, depth=12, num_heads=12, distilled=True
        )
        self.passt_model = PasstBasicWrapper(mel=bands, net=transformer, mode="all")
        self.imagebind = ImageBindModel(out_embed_dim=1024, **UNUSED)
        with laion_clap():
            import clap_module

            folder = Path(str(clap_module.__file__)).parent
            self.laion_clap = TheirClap(_htsat(folder))
        self.synchformer = TheirSynchformer()
        self.sync_mel_spectrogram = MelSpectrogram(
            sample_rate=16_000, win_length=400, hop_length=160, n_fft=1024, n_mels=128
        )
        self.ms_clap = types.SimpleNamespace(
            get_audio_embeddings=lambda paths: torch.zeros(len(paths), 1)
        )


def _htsat(folder: Path) -> nn.Module:
    import json

    from clap_module.model import CLAP

    config = json.loads((folder / "model_configs" / "HTSAT-base.json").read_text())
    text = config["text_cfg"] | {"model_type": "roberta"}
    network: nn.Module = CLAP(config["embed_dim"], config["audio_cfg"], text)
    return network


def _load(path: Path) -> tuple[Tensor, int]:
    samples_NC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(samples_NC.T)), rate_hz


def cpu_seconds(run: Any) -> float:
    """Processor time of a call."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    """Print a line for each round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clone", type=Path)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not (options.clone / "av_bench").is_dir():
        parser.error(f"{options.clone} has no folder av_bench; expected a clone of av-benchmark")
    os.environ[AV_BENCHMARK] = str(options.clone)
    sys.path.append(os.environ.get("OMNI2SOUND_PARITY", str(Path(".cache", "parity").resolve())))
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(originals())
        stack.enter_context(av_benchmark())
        for name in ("msclap", "laion_clap"):  # names that av-benchmark imports and nothing uses
            stub: Any = types.ModuleType(name)
            stub.CLAP = None
            if name == "msclap":
                sys.modules[name] = stub
        import torchaudio

        stack.enter_context(mock.patch.object(torchaudio, "load", _load))
        models = TheirModels().eval()
        extraction: Any = types.ModuleType("av_bench.extraction_models")
        extraction.ExtractionModels = lambda: models
        sys.modules["av_bench.extraction_models"] = extraction
        from av_bench.extract import extract

        ours = our_networks()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = write_sounds(folder, options.clips)

        def theirs() -> None:
            extract(folder, folder / "out", batch_size=options.batch, num_workers=0, device="cpu")

        ratios = []
        for number in range(options.rounds + 1):
            times = [cpu_seconds(lambda: embed_sounds(paths, ours)), cpu_seconds(theirs)]
            if number:  # the first warms both
                ratios.append(times[1] / times[0])
                print(
                    f"{options.clips} clips: ours {times[0]:.1f} s, av-benchmark {times[1]:.1f} s, "
                    f"ratio {ratios[-1]:.2f}",
                    flush=True,
                )
        print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
