"""Options of `omni2sound generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

VideosArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="VIDEO",
        help="Videos to generate sound for: files, folders, or quoted patterns. Default: none.",
    ),
]
PromptOption = Annotated[
    str | None, typer.Option(help="What should be heard, in English. Default: none.")
]
NegativePromptOption = Annotated[
    str | None,
    typer.Option(help="What should not be heard; needs a guidance scale above 1. Default: none."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File to write. Its suffix chooses the format: mp4 mov mkv webm (the video with "
        "the new sound) or wav flac mp3 opus ogg m4a. "
        "Default: VIDEO.omni2sound in the video's own format (or mp4, mov, mkv, webm, whichever "
        "holds the picture, its alpha and its subtitles), or omni2sound.wav.",
    ),
]
OutDirOption = Annotated[
    Path | None,
    typer.Option(
        "--out-dir",
        metavar="DIR",
        help="Folder for the results of several videos; created if missing. What is there "
        "already is not made again. Default: the current folder.",
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="TIME",
        help="Where in the video to begin, as 90 or 1:30; a copy of the video begins there, too. "
        "Default: its beginning.",
    ),
]
EndOption = Annotated[
    str | None,
    typer.Option(
        "--end",
        metavar="TIME",
        help="Where in the video to end, as 98.5 or 1:38.5. Default: its end.",
    ),
]
DurationOption = Annotated[
    str | None,
    typer.Option(
        "--duration",
        metavar="TIME",
        help="Length of the sound, as 90 or 1:30, at most an hour and the video's length; a copy "
        "of the video ends there, too. Default: the video's length, or the model's (8).",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps", metavar="N", help="Sampling steps, 1 to 1000. Default: the model's (8)."
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="G",
        help="Guidance scale, 0 to 100: 1 is no guidance, higher follows the input more "
        "closely. Default: the model's (3).",
    ),
]
TextGuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--text-guidance",
        metavar="G",
        help="Guidance scale of the prompt when a video is given; 4-5 favours off-screen "
        "sounds. Default: --guidance.",
    ),
]
NoRecogniseOption = Annotated[
    bool,
    typer.Option(
        "--no-recognise",
        help="Follow the model's picture features, and don't add what the video shows to the "
        "prompt in words. Default: added, if the model's card says so.",
    ),
]
SeenOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help='What the video shows, as "a car and a dog", in place of recognition. '
        "Default: recognised.",
    ),
]
CueOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cue",
        metavar="S[-S]: TEXT",
        help='What should be heard in a span and only there, as "0.5-2: a dog barks", or a hit '
        'whose onset lies at a time, as "1:05: a door slams"; may be repeated. Default: none.',
    ),
]
CueFileOption = Annotated[
    Path | None,
    typer.Option(
        "--cues",
        metavar="FILE",
        help="File of cues: subtitles (.srt), a table with the columns start, end and text "
        "(.csv), or a list (.json). Default: none.",
    ),
]
LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option(
        "--leave-out",
        metavar="NAME",
        help='Recognised thing that makes no sound, as the notes name it ("dog"); may be repeated. '
        "Default: none.",
    ),
]
NoAmbienceOption = Annotated[
    bool,
    typer.Option(
        "--no-ambience",
        help="Leave out the quiet bed that a recognised scene (sea, fire) gives under other "
        "sounds. Default: a bed.",
    ),
]
StemsOption = Annotated[
    bool,
    typer.Option(
        "--stems",
        help="Make each cue and each recognised sound by itself, and write a file for each into "
        "OUT.stems; their sum is the mix to the last bit. Default: one sound.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Random seed; equal seeds give equal sounds on one machine, to the byte with "
        "--deterministic or the same number of threads and precision. Default: a new one.",
    ),
]
TakesOption = Annotated[
    int,
    typer.Option(
        metavar="K",
        help="Number of results, OUT-1 to OUT-K with seeds N to N+K-1; at most 100.",
    ),
]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        help="Samples per second of the sound, 8000 to 192000; 16000 leaves out the band above "
        "8 kHz that the bundled model adds. Default: the model's (44100); 48000 in mov and in the "
        "wav of a video.",
    ),
]
ChannelsOption = Annotated[
    int | None,
    typer.Option(
        "--channels",
        metavar="N",
        help="Channels of the sound, 1 or 2. Default: 2 in mov and for a video, where they are "
        "placed by what is recognised; "
        "1 for a prompt alone.",
    ),
]
BitsOption = Annotated[
    int | None,
    typer.Option(
        "--bits",
        metavar="N",
        help="Bits a sample of wav, mov and flac: 16, 24, or 32 for floats (not flac). "
        "Default: 24 in mov, else 16.",
    ),
]
AddOption = Annotated[
    bool,
    typer.Option(
        "--add",
        help="Add the takes to those that are there: numbers and seeds go on after the last one.",
    ),
]
PreviewOption = Annotated[
    bool,
    typer.Option(
        "--preview",
        help="Write a picture OUT.png, too: frames above the spectrogram, in dB below full scale; "
        "and one of all takes.",
    ),
]
