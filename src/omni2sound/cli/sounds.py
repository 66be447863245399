"""`omni2sound sounds`: the kinds of sound that the bundled model knows.

In:   nothing.
Out:  each kind with an example of a prompt, on stdout.
"""

from __future__ import annotations

import json

from omni2sound.cli.options import JsonOption


def sounds(as_json: JsonOption = False) -> None:
    """List the kinds of sound that the bundled model knows."""
    from omni2sound.generate.words.kinds import all_kinds, example_of

    kinds = all_kinds()
    if as_json:
        print(
            json.dumps(
                [{"kind": k.class_id, "names": k.names, "example": example_of(k)} for k in kinds]
            )
        )
        return
    width = max(len(kind.class_id) for kind in kinds)
    for kind in kinds:
        print(f"{kind.class_id:{width}}  {example_of(kind)}; also: {', '.join(kind.names[1:4])}")
