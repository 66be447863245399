"""The command line. One module a command; `main.py` names them all.

A command module imports what is heavy (torch, NumPy, rich, the pipeline) inside its function,
because `omni2sound --help` loads every command module to show its options. Results go to
stdout, everything else to stderr; this is the only folder that may print.
"""
