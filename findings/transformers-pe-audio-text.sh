#!/usr/bin/env bash
# transformers 5.23.0: PE-Audio cannot embed a sentence by itself.
#
# Guess before the run: get_text_audio_embeds gives what forward gives as text_audio_embeds, as get_audio_embeds does
#           for the sound.
# Expected: both are equal; then captions can be embedded once and compared with many sounds.
# Happens:  get_text_audio_embeds ends in a TypeError ('NoneType' object is not subscriptable), for PeAudioModel and
#           for PeAudioFrameLevelModel: it reads the hidden states of the text model and does not ask for them.
#           forward asks for them (output_hidden_states) and works; get_audio_embeds works, too.
# Matters:  a scorer of captions embeds sentences and sounds apart. Until this changes one has to call the text model
#           with output_hidden_states=True and the head text_audio_head oneself. The networks are built at tiny sizes
#           with random weights; nothing is downloaded but the packages.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import PeAudioConfig, PeAudioFrameLevelModel, PeAudioModel

text = {"model_type": "modernbert", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "cls_token_id": 1, "sep_token_id": 2}
codec = {"model_type": "dac", "encoder_hidden_size": 4, "decoder_hidden_size": 16, "hidden_size": 64,
         "codebook_dim": 8, "downsampling_ratios": [2, 8, 10, 12]}
audio = {"model_type": "pe_audio_encoder", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
         "num_attention_heads": 2, "head_dim": 16, "dac_config": codec}
ids, wave = torch.tensor([[1, 5, 6, 2]]), 0.1 * torch.randn(1, 1, 48_000)
for kind in (PeAudioModel, PeAudioFrameLevelModel):
    network = kind(PeAudioConfig(text_config=text, audio_config=audio)).eval()
    with torch.no_grad():
        both = network(input_ids=ids, input_values=wave)
        assert torch.allclose(network.get_audio_embeds(wave), both.audio_embeds, atol=1e-5)
        try:
            network.get_text_audio_embeds(ids)
        except TypeError as error:
            print(f"{kind.__name__}: {error}; forward gives {tuple(both.text_audio_embeds.shape)}")
            continue
    raise SystemExit(f"{kind.__name__} embeds a sentence now")
PYTHON
echo "still so"
