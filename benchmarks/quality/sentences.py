"""What costs a sentence its sound: new words, or several things?

Run:  python benchmarks/quality/sentences.py --corpus CORPUS

Text to audio of the default model, three times. Prompts for one thing of each class, in templates
of training, in those that are held out for the test split, and as somebody would type them
(`TYPED`, written for this, without a look at the held-out ones). Captions of "main" scenes of the
validation split, which use training templates, by the number of things that they name. And
a few prompts with ten seeds each. Intervals of the first table are over classes, 95 %.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import CatalogueTagger, tag_recordings
from omni2sound.bench.quick.model import PipelineSounds
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.tracks.scene_clips import draw_clips
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.scenes.captions import class_prompt
from omni2sound.scenes.material.assets import SceneAssets

DURATION_S = 8.0
BATCH = 16
PER_CLASS = 3
NUM_SCENES = 128
SCENE_SEED = 902
TRIED_S = 4.0
TRIED = (
    ("duck", "a duck quacks"),
    ("duck", "a drake gabbles"),
    ("duck", "a waterfowl honks"),
    ("clock", "a clock ticks"),
    ("violin", "a violin plays"),
    ("saw", "a saw cuts wood"),
)

TYPED: dict[str, tuple[str, str, str]] = {
    "drum": ("someone playing the drums", "tom-tom beats", "drumming in a rehearsal room"),
    "cymbal": ("a hi-hat and cymbals", "cymbal splash", "a drummer smashing his cymbals"),
    "guitar": (
        "strumming a guitar",
        "guitar chord on steel strings",
        "somebody plucks an acoustic guitar",
    ),
    "violin": ("violin playing softly", "a fiddler draws the bow", "bowed violin note"),
    "trumpet": ("a man blowing a trumpet", "trumpet solo", "brass fanfare from one trumpet"),
    "flute": ("flute melody", "a girl practises the flute", "breathy flute note"),
    "dog": ("barking dogs", "my puppy is barking at the door", "woof woof"),
    "duck": ("ducks quacking on a pond", "quack quack", "duck calls by the lake"),
    "rooster": (
        "cock-a-doodle-doo",
        "cockerel crowing at dawn",
        "a farmyard rooster calls in the morning",
    ),
    "bird": ("birdsong in the trees", "chirping sparrows", "small birds singing at sunrise"),
    "bell": ("church bells", "ding dong of a bell", "a bell tolls"),
    "hammer": (
        "hammering nails into wood",
        "carpenter with a hammer",
        "hammer blows at a building site",
    ),
    "cowbell": ("cowbell hit with a stick", "cows with clanking bells", "more cowbell"),
    "explosion": ("a bomb goes off", "huge explosion far away", "something blows up"),
    "piano": ("someone plays the piano", "piano keys pressed", "a slow piano note"),
    "xylophone": (
        "xylophone or marimba notes",
        "mallets on a wooden xylophone",
        "children's xylophone tune",
    ),
    "organ": ("pipe organ in a cathedral", "organ chord", "church organist plays"),
    "saxophone": ("sax solo", "a jazz saxophonist blows a note", "tenor sax"),
    "bass": ("bass guitar riff", "low notes of an electric bass", "a bassist plucks one string"),
    "horse": ("galloping horse", "hooves on a cobbled road", "a pony neighs and trots"),
    "sheep": ("bleating sheep", "a lamb calls for its mother", "baa baa from the meadow"),
    "frog": ("croaking frogs at night", "ribbit", "a toad in the pond"),
    "insect": ("crickets at night", "buzzing bees", "a mosquito or a cicada buzzing"),
    "owl": ("owl hooting in the forest", "hoo hoo of an owl at midnight", "a tawny owl calls"),
    "roar": ("lion roaring", "growling beast", "a tiger roars in the zoo"),
    "car": ("car engine starting", "a sports car drives past", "automobile accelerating on a road"),
    "siren": ("ambulance siren", "police car with its siren on", "emergency siren passing by"),
    "train": (
        "train passing on the tracks",
        "locomotive at the station",
        "railway cars clattering",
    ),
    "horn": ("honking car horn", "a truck driver honks", "beep of an angry driver's horn"),
    "saw": ("sawing wood", "a circular saw cuts a board", "chainsaw or hand saw"),
    "knock": ("knock knock on a wooden door", "someone knocking", "knuckles on a door"),
    "door": ("door slams shut", "a creaking door closes", "opening and closing a door"),
    "clock": ("ticking clock", "tick tock", "an old grandfather clock"),
    "telephone": ("phone ringing on the desk", "an old phone rings", "ringtone of a telephone"),
    "beep": ("electronic beeping", "beeps of a machine", "alarm clock bleeps"),
    "glass": ("shattering glass", "a window breaks", "wine glasses clink"),
    "whoosh": ("a fast swish through the air", "whooshing past the ear", "sword swing swish"),
    "steam": ("hissing steam", "pressure cooker letting off steam", "hiss of escaping gas"),
    "water": ("running water in a sink", "a stream trickles", "pouring water into a bowl"),
    "sea": ("ocean waves on the beach", "surf at the coast", "waves roll onto the shore"),
    "rain": ("heavy rain on a roof", "rainfall", "raindrops on the window"),
    "thunder": ("thunderstorm rumbling", "a clap of thunder", "lightning strikes, then thunder"),
    "fire": ("crackling campfire", "burning logs in the fireplace", "flames crackle"),
}

Judge = tuple[str, CatalogueTagger, frozenset[str]]
"""Name, ears, and the classes that it is asked about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    assets = SceneAssets.open(parser.parse_args().corpus)
    judges: list[Judge] = []
    for name, network in (("YAMNet", YamNet.load()), ("second judge", Tagger.load())):
        ears = CatalogueTagger(network, assets.catalogue)
        judges.append((name, ears, frozenset(tag_recordings(assets, ears).scorable)))
    pipeline = TorchPipeline.load("embedded", device="cpu")
    _one_thing(assets, judges, pipeline)
    _several_things(assets, judges, pipeline)
    _ten_seeds(judges[0], pipeline)


def _one_thing(assets: SceneAssets, judges: Sequence[Judge], pipeline: TorchPipeline) -> None:
    rng = np.random.default_rng(5)
    classes = assets.catalogue.classes
    wordings = {"typed": [(c.class_id, text) for c in classes for text in TYPED[c.class_id]]}
    for name, held_out in (("of training", False), ("held out", True)):
        wordings[name] = [
            (c.class_id, class_prompt(c, rng=rng, held_out=held_out))
            for c in classes
            for _ in range(PER_CLASS)
        ]
    guidances = {"typed": (3.0, 2.0, 4.5, 6.0)}
    print(f"one thing a prompt, {PER_CLASS} prompts a class")
    for name, asked in wordings.items():
        for guidance in guidances.get(name, (3.0,)):
            sounds = _sounds(pipeline, [text for _, text in asked], guidance)
            told = []
            for judge, ears, scorable in judges:
                heard: dict[str, list[float]] = defaultdict(list)
                for (class_id, _), sound_N in zip(asked, sounds, strict=True):
                    if class_id in scorable:
                        heard[class_id].append(class_id in ears.tag(sound_N).somewhere)
                e = bootstrap_mean([float(np.mean(hits)) for hits in heard.values()])
                told.append(f"{judge} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}] of {e.num_clips}")
                if name == "typed" and guidance == 3.0:
                    few = sorted(c for c, hits in heard.items() if sum(hits) < 2)
                    told.append(f"(once or never: {', '.join(few) or 'none'})")
            over = np.mean([np.abs(x).max() > 1 for x in sounds])
            loudest = max(float(np.abs(x).max()) for x in sounds)
            print(f"  {name}, guidance {guidance:g}: {'  '.join(told)}", flush=True)
            print(f"    over full scale {over:.2f}, loudest {loudest:.1f}", flush=True)


def _sounds(
    pipeline: TorchPipeline, prompts: Sequence[str], guidance: float
) -> list[NDArray[np.float32]]:
    model = PipelineSounds(pipeline=pipeline, seed=900, duration_s=DURATION_S, guidance=guidance)
    made: list[NDArray[np.float32]] = []
    for first in range(0, len(prompts), BATCH):
        made += model.for_prompts(prompts[first : first + BATCH], first)
    return made


def _several_things(assets: SceneAssets, judges: Sequence[Judge], pipeline: TorchPipeline) -> None:
    clips = list(
        draw_clips(
            assets,
            "main",
            split="val",
            seed=SCENE_SEED,
            num_clips=NUM_SCENES,
            duration_s=DURATION_S,
        )
    )
    model = PipelineSounds(pipeline=pipeline, seed=5000, duration_s=DURATION_S)
    shares: dict[int, list[list[float]]] = defaultdict(lambda: [[] for _ in judges])
    for first in range(0, len(clips), BATCH):
        batch = clips[first : first + BATCH]
        for clip, sound_N in zip(
            batch, model.for_prompts([c.caption for c in batch], first), strict=True
        ):
            named = {event.class_id for event in clip.events}
            for found, (_, ears, scorable) in zip(shares[len(named)], judges, strict=True):
                if asked := named & scorable:
                    heard = ears.tag(sound_N).somewhere
                    found.append(len(asked & heard) / len(asked))
    print(f"captions of {NUM_SCENES} validation scenes, by the things that they name")
    everything = [[x for found in shares.values() for x in found[i]] for i in range(len(judges))]
    for name, of_judges in [*sorted(shares.items()), ("all", everything)]:
        told = [
            f"{judge} {np.mean(found):.3f} ({len(found)})"
            for (judge, _, _), found in zip(judges, of_judges, strict=True)
        ]
        print(f"  {name}: {'  '.join(told)}", flush=True)


def _ten_seeds(judge: Judge, pipeline: TorchPipeline) -> None:
    name, ears, _ = judge
    print(f"seeds 1 to 10, {TRIED_S:g} s, {name}")
    for class_id, prompt in TRIED:
        hits = 0
        for seed in range(1, 11):
            audio = pipeline(prompt=prompt, duration_s=TRIED_S, seed=seed).audio
            hits += class_id in ears.tag(audio.samples_CN[0]).somewhere
        print(f'  "{prompt}": {class_id} in {hits}', flush=True)


if __name__ == "__main__":
    main()
