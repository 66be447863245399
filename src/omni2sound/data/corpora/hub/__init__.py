"""Data sets of the Hugging Face Hub: Parquet files that hold sounds or videos beside their texts.

In:   a folder of `*.parquet` files as `datasets` writes them ("train-00000-of-00012.parquet").
Out:  media files, one a row; drafts of the rows, which find them.
"""

from omni2sound.data.corpora.hub.tables import read

__all__ = ["read"]
