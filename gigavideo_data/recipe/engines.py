"""The engines that a recipe can name: one literal table, backend -> module and class, as text.

A recipe is checked against it without importing any of them; `models.registry` imports what it names. A backend that is
not in the table is a plug-in of another package (see `plugins`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["writer", "captions", "generator", "judge", "soft judge", "features"]
Name = tuple[str, str]  # module, and a name in it

QUIET_S = 1800.0  # of plug-ins, and of endpoints: the client's own limit for one answer, retries included, is less


@dataclass(frozen=True)
class Engine:
    """How the engine of one backend is described and run.

    Attributes:
        cls: the class; it is made with `EngineSpec.settings`.
        spec: a function from a part of the recipe to its `EngineSpec`, in a module that imports no model. None where a
            stage names the settings itself.
        split_cls: the class of a worker with several GPUs; None where `cls` divides its model over them, or uses one.
        actor_pool: whether it is too heavy to be loaded by every process that runs tasks, and so needs a pool of
            workers that hold it.
        rows_at_once: how many rows of a task it answers in parallel, each in a thread. A worker of a pool then has two
            tasks at once: the rows of one are prepared while those of the other are answered.
        quiet_s: how long it may send no heartbeat (see `heartbeat`), in seconds, whatever the recipe says.
        subjects: a mapping whose keys are the dimensions that a writer can write about; None: all.
        held_out: a function from a prompt to the split of a writer's language that is kept for evaluation and contains
            it, in words, or to None. None where the writer has no such splits.
        remote: whether a service does its work, on devices that are not known here.
        hub_file: a small file that every model of it has, by which a commit of the Hub is found; None: it loads none.
    """

    cls: Name
    spec: Name | None = None
    split_cls: Name | None = None
    actor_pool: bool = False
    rows_at_once: int = 1
    quiet_s: float = 0.0
    subjects: Name | None = None
    held_out: Name | None = None
    remote: bool = False
    hub_file: str | None = None


_FEATURES = "gigavideo_data.models.features"
_WRITER, _ASKING = "gigavideo_data.models.llm.writer", "gigavideo_data.models.judges.asking"

ENGINES: dict[Kind, dict[str, Engine]] = {
    "writer": {
        "grammar": Engine(
            ("gigavideo_data.miniature.writer", "GrammarWriter"),
            ("gigavideo_data.miniature.writer", "spec"),
            subjects=("gigavideo_data.miniature.questions", "ASK"),
            held_out=("gigavideo_data.miniature.writer", "held_out"),
        ),
        "http": Engine((_WRITER, "LanguageWriter"), (_WRITER, "served"), rows_at_once=32, quiet_s=QUIET_S, remote=True),
        "vllm": Engine(
            (_WRITER, "LanguageWriter"),
            (_WRITER, "loaded"),
            actor_pool=True,
            rows_at_once=64,
            hub_file="config.json",
        ),
        "camera": Engine(("gigavideo_data.models.judges.camera", "CameraQuestions")),
        "counting": Engine(("gigavideo_data.models.judges.counting", "CountingQuestions")),
    },
    "captions": {
        "miniature": Engine(
            ("gigavideo_data.miniature.clips", "RenderedClips"), ("gigavideo_data.miniature.clips", "spec")
        ),
        "table": Engine(("gigavideo_data.pipeline.sources.clip_folder", "FolderClips")),
        "files": Engine(("gigavideo_data.pipeline.sources.video_files", "VideoFiles")),
    },
    "generator": {
        "diffusers": Engine(
            ("gigavideo_data.models.generators.diffusers_generator", "DiffusersGenerator"),
            ("gigavideo_data.models.generators.profiles", "spec"),
            split_cls=("gigavideo_data.models.generators.split_generator", "SplitGenerator"),
            actor_pool=True,
            hub_file="model_index.json",
        ),
    },
    "judge": {
        "miniature": Engine(
            ("gigavideo_data.miniature.judge", "MiniatureJudge"), ("gigavideo_data.miniature.judge", "spec")
        ),
        "camera": Engine(
            ("gigavideo_data.models.judges.camera", "CameraJudge"), ("gigavideo_data.models.judges.camera", "spec")
        ),
        "counting": Engine(
            ("gigavideo_data.models.judges.counting", "CountingJudge"),
            ("gigavideo_data.models.judges.counting", "spec"),
            actor_pool=True,
            hub_file="config.json",
        ),
        "http": Engine(
            ("gigavideo_data.models.judges.http_judge", "HttpJudge"),
            (_ASKING, "served"),
            rows_at_once=8,
            quiet_s=QUIET_S,
            remote=True,
        ),
        "transformers": Engine(
            ("gigavideo_data.models.judges.transformers_judge", "TransformersJudge"),
            (_ASKING, "loaded"),
            actor_pool=True,
            hub_file="config.json",
        ),
        "vllm": Engine(
            ("gigavideo_data.models.judges.vllm_judge", "VllmJudge"),
            (_ASKING, "loaded"),
            actor_pool=True,
            rows_at_once=8,
            hub_file="config.json",
        ),
    },
    "soft judge": {  # those that gradients flow through; their specs are those of judges
        "miniature": Engine(("gigavideo_data.miniature.soft_judge", "SoftMiniatureJudge")),
        "transformers": Engine(("gigavideo_data.models.judges.transformers_judge", "TransformersJudge")),
    },
    "features": {  # of clips, for realism and spread; chosen by an option of gv-data eval, not by a recipe
        "vae": Engine(
            (f"{_FEATURES}.autoencoder", "AutoencoderFeatures"),
            (f"{_FEATURES}.specs", "autoencoder"),
            actor_pool=True,
            hub_file="vae/config.json",
        ),
        "network": Engine(
            (f"{_FEATURES}.network", "NetworkFeatures"),
            (f"{_FEATURES}.specs", "network"),
            actor_pool=True,
            hub_file="config.json",
        ),
    },
}
