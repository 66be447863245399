#!/usr/bin/env bash
# pyarrow 26.0.1: lists that are read as dictionaries can't be read in batches across groups of rows of a Parquet file.
#
# Guess before the run: as for a column of plain text, where a batch of two groups has one joined dictionary.
# Expected: 600 rows for every size of group and batch, with `read_dictionary` and without.
# Happens:  for a column of lists of text, `iter_batches` with `read_dictionary` raises ArrowNotImplementedError
#           ("Nested data conversions not implemented for chunked array outputs") as soon as a batch spans two
#           groups. Plain columns, batches within a group, and lists without `read_dictionary` are read.
# Matters:  captions are lists, and files of the Hub have groups of a hundred rows or a thousand. omni2sound reads texts
#           as dictionaries, so that a few kilobytes can't claim gigabytes, and so reads group by group (readers.py).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [f"word {number}" for number in range(600)]
COLUMNS = {"caption": pa.array(WORDS), "caption.list.element": pa.array([[word] for word in WORDS])}
refused = []
for path, column in COLUMNS.items():
    for group in (600, 100):
        pq.write_table(pa.table({"caption": column}), "rows.parquet", row_group_size=group)
        for dictionaries in ([], [path]):
            for batch in (50, 256):
                with pq.ParquetFile("rows.parquet", read_dictionary=dictionaries) as file:
                    try:
                        told = sum(b.num_rows for b in file.iter_batches(batch_size=batch))
                    except pa.ArrowNotImplementedError as error:
                        told = error
                        refused.append((path, group, bool(dictionaries), batch))
                kind = "dictionary" if dictionaries else "plain"
                print(f"{path:20} groups of {group}, {kind:10} batches of {batch:3}: {told}")
raise SystemExit(refused != [("caption.list.element", 100, True, 256)])
PYTHON
