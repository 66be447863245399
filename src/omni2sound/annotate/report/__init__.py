"""Results of a run: progress, data set, pages, comparisons.

status.py            counts, money, speed, time left
costs.py             cost of the run, and with the senior for every clip
export.py            data set of the kept clips
page.py              HTML page of one clip
judge_run.py         win rate of the captions against others
against_scenes.py    captions against the ground truth of synthetic scenes
"""
