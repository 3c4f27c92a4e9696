"""Build, score and publish datasets of generated videos with rewards, and evaluate tuned models; see docs/api.md.

Nothing is imported before it is used: `import gigavideo_data`, and so `gv-data --help`, takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gigavideo_data.api import Dataset, build, evaluate, load, score, score_videos
    from gigavideo_data.errors import GigaVideoError
    from gigavideo_data.recipe.recipe import Recipe

    __version__: str

__all__ = ["Dataset", "GigaVideoError", "Recipe", "__version__", "build", "evaluate", "load", "score", "score_videos"]

_MODULES = {
    "Dataset": "gigavideo_data.api",
    "GigaVideoError": "gigavideo_data.errors",
    "Recipe": "gigavideo_data.recipe.recipe",
    "build": "gigavideo_data.api",
    "evaluate": "gigavideo_data.api",
    "load": "gigavideo_data.api",
    "score": "gigavideo_data.api",
    "score_videos": "gigavideo_data.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("gigavideo")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
