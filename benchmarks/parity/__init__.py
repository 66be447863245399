"""Our parts against the originals: the table of `make parity`.

A module in this folder whose name does not begin with an underscore exports
``ROWS: tuple[Row, ...]``; nothing else registers it. `_table` says what a row is.
"""
