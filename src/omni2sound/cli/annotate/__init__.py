"""`omni2sound annotate`: captions for a corpus, from checking an endpoint to exporting.

In:   a manifest; a crew or models by name; a run folder, positional in every command.
Out:  a run folder, resumed if it exists; a data set; tables and pages on stdout.
"""

from __future__ import annotations

from omni2sound.cli.annotate import calibrate, report, run
from omni2sound.cli.options import command_group

app = command_group("Caption clips from sound and picture: check, run, export.")
for command in (
    run.check,
    calibrate.calibrate,
    run.run,
    report.status,
    report.retry,
    report.export,
    report.inspect,
    report.review,
    report.judge,
    report.score,
):
    app.command()(command)

__all__ = ["app"]
