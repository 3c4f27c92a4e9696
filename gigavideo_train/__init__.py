"""Fine-tune text-to-video models on reward-annotated datasets.

import gigavideo_train

model = gigavideo_train.train("runs/quickstart", settings={"max_steps": 50})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gigavideo_train.api import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    """Import the public API on its first use, so that `gv-train --help` imports no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gigavideo_train import api

    return getattr(api, name)
