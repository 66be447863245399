"""What the full-size model listens to, beside transformers, open_clip and torchvision."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from benchmarks.parity._table import Row, relative
from benchmarks.parity._upstream import heard, make_listen

_T5 = {
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 12,
    "num_heads": 12,
    "vocab_size": 256,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
_TEXTS = ["a dog barks twice, then rain", "a door", "word " * 200]


def _pictures(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (2, 3, height // 8, width // 8), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.randint(0, 24, smooth.shape, generator=generator)
    return (smooth * 0.9 + noise).to(torch.uint8)


def _t5() -> float:
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    from omni2sound.encoders.t5 import T5TextEncoder

    original = T5ForConditionalGeneration(T5Config(**_T5)).eval()
    for parameter in original.parameters():
        torch.nn.init.normal_(
            parameter, std=0.05, generator=torch.Generator().manual_seed(parameter.numel())
        )
    alphabet = ["<pad>", "</s>", *map(chr, range(32, 127))]
    words = Tokenizer(models.WordLevel({c: i for i, c in enumerate(alphabet)}, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    words.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    reader = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    batch = reader(
        _TEXTS, truncation=True, max_length=128, padding="max_length", return_tensors="pt"
    )
    with torch.no_grad():
        states = original.encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    expected = states * batch["attention_mask"][..., None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        tensors = {k: v.clone() for k, v in original.state_dict().items()}
        save_file(tensors, path / "model.safetensors")
        (path / "config.json").write_text(json.dumps(_T5), encoding="utf-8")
        words.save(str(path / "tokenizer.json"))
        ours = T5TextEncoder.load(path)
    return relative(ours(_TEXTS).states_BTD, heard(expected))


def _clip() -> float:
    import open_clip
    from torchvision.transforms import v2

    from omni2sound.encoders.clip import ClipShape, ClipVision, build_clip, from_open_clip
    from omni2sound.encoders.published import fill

    original = open_clip.model.CLIP(
        embed_dim=1024,
        vision_cfg={
            "layers": 4,
            "width": 1280,
            "head_width": 80,
            "patch_size": 14,
            "image_size": 378,
        },
        text_cfg={"layers": 1, "width": 64, "heads": 1, "vocab_size": 100},
        quick_gelu=True,
    ).eval()
    prepare = v2.Compose([
        v2.Resize((384, 384), interpolation=v2.InterpolationMode.BICUBIC),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(
            mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]
        ),
    ])  # fmt: skip
    make_listen(original.visual)
    shape = ClipShape(depth=4)
    network = build_clip(shape)
    fill(network, from_open_clip(original.state_dict()), title="CLIP")
    pictures = _pictures(240, 424)
    with torch.no_grad():
        expected = original.encode_image(prepare(pictures), normalize=True)
    return relative(
        ClipVision(network, shape=shape).embed(pictures.permute(0, 2, 3, 1)), heard(expected)
    )


def _resize() -> float:
    from torchvision.transforms import v2

    from omni2sound.encoders.pictures import crop_centre, resize, resize_short_side

    bicubic = v2.InterpolationMode.BICUBIC
    squash = v2.Resize((384, 384), interpolation=bicubic)
    middle = v2.Compose([v2.Resize(224, interpolation=bicubic), v2.CenterCrop(224)])
    worst = 0.0
    for height, width in ((360, 648), (648, 360), (96, 128), (225, 400)):
        pictures = _pictures(height, width)
        frames = pictures.permute(0, 2, 3, 1)
        squashed = squash(pictures).permute(0, 2, 3, 1)
        cropped = middle(pictures).permute(0, 2, 3, 1)
        ours = crop_centre(resize_short_side(frames, 224), 224)
        worst = max(worst, relative(resize(frames, (384, 384)), heard(squashed.float())))
        worst = max(worst, relative(ours, heard(cropped.float())))
    return worst


ROWS = (
    Row(
        part="Flan-T5",
        against="transformers",
        what="base width and depth, small vocabulary: 3 texts, 128 tokens, from a folder",
        limit=1e-5,
        measure=_t5,
    ),
    Row(
        part="picture resizing",
        against="torchvision 0.28.0",
        what="4 sizes: squashed to 384; short side 224 and centre crop; equal bytes",
        limit=0,
        measure=_resize,
    ),
    Row(
        part="CLIP",
        against="open-clip-torch 3.3.0",
        what="ViT-H width, depth 4, at 384 px from 240 x 424: resizing, names, unit vectors",
        limit=1e-4,
        measure=_clip,
    ),
)
