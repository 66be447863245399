"""Names of ComfyUI's published API (`comfy_api.latest` of 0.3.64) that the nodes use, no more.

ComfyUI is on no package index. `integrations/comfyui/try_it.py` runs the nodes in the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


class Input:
    def __init__(self, id: str, **settings: Any) -> None:
        self.id, self.settings = id, settings


class Output(Input):
    pass


class Schema:
    def __init__(self, **fields: Any) -> None:
        vars(self).update({"inputs": [], "outputs": [], "hidden": []} | fields)


class NodeOutput:
    def __init__(self, *values: Any, ui: Any = None) -> None:
        self.args, self.ui = values, ui


class ComfyNode:
    hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)


class ComfyExtension:
    pass


class Interrupted(Exception):
    """`comfy.model_management.InterruptProcessingException`."""


def modules(root: Path, steps: list[tuple[int, int]], stop_at: list[int]) -> dict[str, Any]:
    """Modules by name, with ComfyUI's folders under `root`.

    Args:
        root: A folder.
        steps: Gets what the nodes say of their progress.
        stop_at: Number of steps after which the user has interrupted; empty: never.
    """

    class ProgressBar:
        def __init__(self, total: int) -> None:
            pass

        def update_absolute(self, value: int, total: int) -> None:
            steps.append((value, total))

    def interrupted() -> None:
        if stop_at and len(steps) >= stop_at[0]:
            raise Interrupted

    def save_path(prefix: str, folder: str) -> tuple[str, str, int, str, str]:
        target = Path(folder, prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        return str(target.parent), target.name, 1, str(Path(prefix).parent), prefix

    kind = SimpleNamespace(Input=Input, Output=Output)
    names = ("Audio", "Boolean", "Combo", "Float", "Image", "Int", "String", "Video")
    io = SimpleNamespace(
        **dict.fromkeys(names, kind),
        Custom=lambda name: kind,
        Input=Input,
        Schema=Schema,
        NodeOutput=NodeOutput,
        ComfyNode=ComfyNode,
        Hidden=SimpleNamespace(prompt="PROMPT", extra_pnginfo="EXTRA_PNGINFO"),
        FolderType=SimpleNamespace(output="output"),
    )
    ui = SimpleNamespace(
        SavedResult=lambda file, subfolder, kind: (file, subfolder, kind),
        SavedAudios=list,
        PreviewVideo=list,
    )
    folders: dict[str, list[str]] = {}
    parts = {
        "comfy": {},
        "comfy.model_management": {
            "throw_exception_if_processing_interrupted": interrupted,
            "get_torch_device": lambda: torch.device("cpu"),
        },
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy.cli_args": {"args": SimpleNamespace(disable_metadata=False)},
        "comfy_api": {},
        "comfy_api.latest": {
            "ComfyExtension": ComfyExtension,
            "io": io,
            "ui": ui,
        },
        "folder_paths": {
            "models_dir": str(root / "models"),
            "add_model_folder_path": lambda n, path: folders.setdefault(n, []).append(path),
            "get_folder_paths": lambda name: folders[name],
            "get_output_directory": lambda: str(root / "output"),
            "get_save_image_path": save_path,
        },
    }
    made = {}
    for name, members in parts.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(members)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, made[name])
    return made


def load(folder: Path, name: str) -> ModuleType:
    """Import a folder as a package of a name, as ComfyUI does."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
