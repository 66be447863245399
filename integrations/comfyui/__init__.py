"""ComfyUI nodes of omni2sound; ComfyUI imports this folder and calls `comfy_entrypoint`."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
