"""Networks that judge sounds, beside the packages of their authors, on random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.parity._table import Row, relative
from benchmarks.parity._upstream import av_benchmark, heard, laion_clap, make_listen, sound


def _panns() -> float:
    from panns_inference.models import Cnn14 as Original

    from omni2sound.encoders.metric.panns import Cnn14, fourier_kernels
    from omni2sound.encoders.published import fill

    original = Original(
        sample_rate=16_000,
        window_size=512,
        hop_size=160,
        mel_bins=64,
        fmin=50,
        fmax=8000,
        classes_num=527,
    ).eval()
    make_listen(original, skip=lambda name: "extractor" in name)
    state = original.state_dict()
    kernels = [
        state.pop(f"spectrogram_extractor.stft.conv_{x}.weight")[:, 0] for x in ("real", "imag")
    ]
    ours = Cnn14().eval()
    bands = ours.logmel_extractor.melW.clone()
    fill(ours, state, title="PANNs")
    waveform_BN = sound(128_000)
    with torch.no_grad():
        expected = original(waveform_BN)
        logits, embeddings = ours(waveform_BN)
    return max(
        relative(embeddings, heard(expected["embedding"])),
        relative(logits.sigmoid(), heard(expected["clipwise_output"])),
        relative(bands, original.logmel_extractor.melW),
        *(relative(a, b) for a, b in zip(fourier_kernels(), kernels, strict=True)),
    )


def _resample() -> float:
    from torchaudio.transforms import Resample

    from omni2sound.encoders.metric.spectra import resample

    worst = 0.0
    for old, new in ((44_100, 16_000), (48_000, 16_000), (16_000, 48_000), (16_000, 32_000)):
        waveform_BN = sound(old)
        expected = Resample(old, new)(waveform_BN)
        worst = max(worst, relative(resample(waveform_BN, old, new), heard(expected)))
    return worst


def _passt() -> float:
    from hear21passt.models.passt import PaSST
    from hear21passt.models.preprocess import AugmentMelSTFT

    from omni2sound.encoders.metric.passt import PasstConfig, PasstNetwork, passt_log_mel
    from omni2sound.encoders.published import fill

    front = AugmentMelSTFT(
        n_mels=128, sr=32_000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192,
        htk=False, fmin=0.0, fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000,
    ).eval()  # fmt: skip
    original = PaSST(
        stride=10, img_size=(128, 998), embed_dim=192, depth=12, num_heads=3, distilled=True
    ).eval()
    make_listen(original)
    waveform_BN = torch.nn.functional.pad(sound(256_000), (0, 64_000))
    with torch.no_grad():
        bands = front(waveform_BN)
        logits, embeddings = original(bands[:, None])
    ours = PasstNetwork(PasstConfig(width=192, num_heads=3)).eval()
    fill(ours, original.state_dict(), title="PaSST")
    our_bands = passt_log_mel(waveform_BN)
    with torch.no_grad():
        our_logits, our_embeddings = ours(our_bands)
    return max(
        relative(our_bands, heard(bands)),
        relative(our_embeddings, heard(embeddings)),
        relative(our_logits, heard(logits)),
    )


def _synchformer() -> float:
    from omni2sound.encoders.metric.synchformer import (
        SynchformerConfig,
        SynchformerNetwork,
        log_mel_segments,
    )
    from omni2sound.encoders.published import fill

    with av_benchmark():
        from av_bench.synchformer.synchformer import Synchformer
        from torchaudio.transforms import MelSpectrogram

        original = Synchformer().eval()
        front = MelSpectrogram(
            sample_rate=16_000, win_length=400, hop_length=160, n_fft=1024, n_mels=128
        )
    make_listen(original)
    ours = SynchformerNetwork(SynchformerConfig()).eval()
    fill(ours, original.state_dict(), title="Synchformer")

    waveform_BN = sound(15_360)  # two segments a clip
    cuts = waveform_BN.unfold(1, 10_240, 5_120)
    theirs = torch.nn.functional.pad((front(cuts) + 1e-6).log(), (0, 1))
    theirs = (theirs + 4.2677393) / (2 * 4.5689974)
    bands = torch.stack([log_mel_segments(x) for x in waveform_BN])
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 16, 3, 224, 224, generator=generator) * 2 - 1
    with torch.no_grad(), av_benchmark():
        heard_audio = original.extract_afeats(theirs[:, :, None])
        seen = original.extract_vfeats(pictures[:, None])
        audio = ours.afeat_extractor(bands.flatten(0, 1)).unflatten(0, (2, 2))
        visual = ours.vfeat_extractor(pictures.transpose(1, 2))[:, None]
        long_audio, long_visual = heard_audio[:, :1], seen
        long_audio = long_audio * torch.linspace(0.5, 1.5, 14)[:, None, None]
        long_visual = long_visual * torch.linspace(1.5, 0.5, 14)[:, None, None]
        logits = original.compare_v_a(long_visual, long_audio)
        our_logits = ours.compare(long_visual, long_audio)
    return max(
        relative(bands, heard(theirs)),
        relative(audio, heard(heard_audio)),
        relative(visual, heard(seen)),
        relative(our_logits, heard(logits)),
    )


def _clap() -> float:
    from omni2sound.encoders.metric.clap import (
        ClapShape,
        build_clap,
        clap_log_mel,
        from_laion,
        with_constants,
    )
    from omni2sound.encoders.published import fill

    with laion_clap():
        import clap_module
        from clap_module.model import CLAP

        package = Path(str(clap_module.__file__)).parent
        config = json.loads((package / "model_configs" / "HTSAT-base.json").read_text())
        text = config["text_cfg"] | {"model_type": "roberta"}
        original = CLAP(config["embed_dim"], config["audio_cfg"], text).eval()
    make_listen(original, skip=lambda name: "_extractor" in name)
    network = build_clap(ClapShape(text_depth=2, vocabulary=300))
    state = {f"module.{name}": tensor for name, tensor in original.state_dict().items()}
    fill(network, with_constants(from_laion(state), network), title="CLAP")

    waveform_BN = sound(384_000)
    padded = torch.nn.functional.pad(waveform_BN, (0, 96_000))
    ids = torch.randint(3, 300, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[1, 9:] = 1
    batch = {"input_ids": ids, "attention_mask": (ids != 1).long()}
    with torch.no_grad():
        bands = original.audio_branch.logmel_extractor(
            original.audio_branch.spectrogram_extractor(padded)
        )
        audio = original.get_audio_embedding([{"waveform": x} for x in padded])
        text = original.get_text_embedding(dict(batch))
        our_bands = clap_log_mel(waveform_BN)
        our_audio = network.audio_projection(network.audio_model(our_bands).pooler_output)
        our_text = network.text_projection(network.text_model(**batch).pooler_output)
    unit = torch.nn.functional.normalize
    return max(
        # As power: 120 dB below the loudest, decibels are those of rounding errors.
        relative(10 ** (our_bands / 10), heard(10 ** (bands / 10))),
        relative(unit(our_audio, dim=-1), heard(audio)),
        relative(unit(our_text, dim=-1), heard(text)),
    )


def _vggish() -> float:
    import numpy as np
    from torchvggish.torchvggish import VGG, make_layers
    from torchvggish.vggish_input import waveform_to_examples

    from omni2sound.encoders.metric.vggish import VggishNetwork, vggish_log_mel
    from omni2sound.encoders.published import fill

    original = VGG(make_layers(), postprocess=False).eval()
    make_listen(original)
    ours = VggishNetwork().eval()
    fill(ours, original.state_dict(), title="VGGish")
    del original.embeddings[5]  # the last ReLU, as av-benchmark leaves it out
    waveform_BN = sound(128_000)
    bands = torch.stack(
        [
            waveform_to_examples(x.numpy().astype(np.float64), 16_000).detach()[:, 0]
            for x in waveform_BN
        ]
    )
    our_bands = torch.stack([vggish_log_mel(x) for x in waveform_BN])
    with torch.no_grad():
        expected = torch.stack([original(x[:, None]) for x in bands])
        embeddings = torch.stack([ours(x) for x in our_bands])
    return max(relative(our_bands, heard(bands)), relative(embeddings, heard(expected)))


def _imagebind() -> float:
    from imagebind.data import SpatialCrop, waveform2melspec
    from imagebind.models.imagebind_model import ImageBindModel
    from torchvision.transforms import v2

    from omni2sound.encoders.metric.imagebind import (
        NOT_NEEDED,
        ImageBindNetwork,
        ImageBindShape,
        imagebind_log_mel,
        picture_cuts,
    )
    from omni2sound.encoders.published import fill

    small = {"vision": (160, 4, 4), "audio": (96, 3, 3)}
    rest = {"text": (32, 1, 1), "depth": (32, 1, 1), "thermal": (32, 1, 1), "imu": (32, 1, 1)}
    sizes = {
        f"{kind}_{what}": value
        for kind, values in (small | rest).items()
        for what, value in zip(("embed_dim", "num_blocks", "num_heads"), values, strict=True)
    }
    original = ImageBindModel(out_embed_dim=64, **sizes).eval()
    make_listen(original)
    shape = ImageBindShape(
        vision_width=160, vision_depth=4, vision_heads=4,
        audio_width=96, audio_depth=3, audio_heads=3, dim=64,
    )  # fmt: skip
    ours = ImageBindNetwork(shape).eval()
    fill(ours, original.state_dict(), title="ImageBind", not_needed=NOT_NEEDED)

    waveform_BN = sound(128_000)
    starts = (0, 48_000, 96_000)
    bands = torch.stack(
        [
            torch.stack(
                [
                    waveform2melspec(x[None, start : start + 32_000].clone(), 16_000, 128, 204)
                    for start in starts
                ]
            )
            for x in waveform_BN
        ]
    )
    bands = (bands + 4.268) / 9.138
    our_bands = torch.stack([imagebind_log_mel(x) for x in waveform_BN])

    prepare = v2.Compose([
        v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(
            mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]
        ),
    ])  # fmt: skip
    videos, our_cuts = [], []
    generator = torch.Generator().manual_seed(0)
    for height, width in ((270, 481), (480, 272)):
        frames = torch.randint(0, 256, (4, 3, height, width), generator=generator)
        frames = frames.to(torch.uint8)
        crops = SpatialCrop(224, 3)([prepare(frames).transpose(0, 1)])
        videos.append([crop[:, i : i + 2] for i in range(3) for crop in crops])
        our_cuts.append(picture_cuts(frames.permute(0, 2, 3, 1)))
    cuts = torch.stack([torch.stack(video) for video in videos])
    with torch.no_grad():
        expected = original({"audio": bands, "vision": cuts})
        audio = torch.stack([ours.embed(x, "audio") for x in our_bands])
        vision = torch.stack([ours.embed(x, "vision") for x in our_cuts])
    return max(
        relative(our_bands, heard(bands)),
        relative(torch.stack(our_cuts), heard(cuts)),
        relative(20 * audio, heard(expected["audio"])),
        relative(vision, heard(expected["vision"])),
    )


ROWS = (
    Row(
        part="resampling for judges",
        against="torchaudio 2.11.0",
        what="44.1, 48 to 16 kHz; 16 to 48, 32 kHz",
        limit=1e-5,
        measure=_resample,
    ),
    Row(
        part="PANNs",
        against="panns-inference 0.1.1",
        what="Cnn14-16k: kernels, bands, embeddings, probabilities of 2 x 8 s",
        limit=1e-4,
        measure=_panns,
    ),
    Row(
        part="PaSST",
        against="hear21passt 0.0.26",
        what="width 192, depth 12: bands, embeddings, logits of 2 x 8 s padded to 10 s",
        limit=1e-4,
        measure=_passt,
    ),
    Row(
        part="Synchformer",
        against="av-benchmark 050a5cd (a clone)",
        what="full size, all names: bands, audio and visual features, offset logits",
        limit=1e-4,
        measure=_synchformer,
    ),
    Row(
        part="CLAP",
        against="laion-clap 1.1.7",
        what="HTSAT-base, RoBERTa of depth 2: bands of 2 x 8 s, both unit vectors",
        limit=1e-4,
        measure=_clap,
    ),
    Row(
        part="VGGish",
        against="torchvggish 0.2",
        what="full size: bands and embeddings of 2 x 8 s, last ReLU removed from both",
        limit=1e-4,
        measure=_vggish,
    ),
    Row(
        part="ImageBind",
        against="imagebind-unofficial 0.1.1",
        what="widths 160 and 96: bands, crops, sound and picture vectors, all names",
        limit=1e-4,
        measure=_imagebind,
    ),
)
