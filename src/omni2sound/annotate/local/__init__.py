"""The roles, played by networks that run here: weak, free, offline.

perceive.py    YAMNet, MobileNetV2 and the joint space look at a clip, in the executor
words.py       what taggers' class names are called in captions
words.json     the same for ImageNet's classes
events.py      from tagger scores to events
wording.py     a language model rewords the sentence, and a check that lets it invent nothing
smollm2.py     that language model
roles.py       scorer, viewer, junior, senior, validator
"""
