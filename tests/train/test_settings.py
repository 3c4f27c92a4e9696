"""Defaults by model, strategy and GPU; and the tables of settings in the documentation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_train import presets
from gigavideo_train.config import TrainConfig, load
from tests.support.genuine_configs import WAN_5B, WAN_14B

PRESETS = "| model | GB, from | GPUs, from | way | estimated, a sample | estimated, a pair | measured |"
DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


def text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def tables(header: str) -> list[list[str]]:
    """The cells of all lines of the tables with a header."""
    blocks = [block.partition("\n\n")[0] for block in DOCS.split(header)[1:]]
    return [line.strip("| ").split(" | ") for block in blocks for line in block.splitlines()[2:]]


def test_each_table_replaces_the_one_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(presets, "MODEL_PRESETS", {"small": {"lr": 1.0, "ema": 0.1, "epochs": 2}})
    tuned = {"any": {"nft": {"ema": 0.2, "seed": 5}}, "small": {"nft": {"epochs": 3, "batch_size": 8, "tune": "full"}}}
    monkeypatch.setattr(presets, "STRATEGY_DEFAULTS", tuned)
    memory = {(24, 1): {"tune": "lora", "batch_size": 9, "micro_batch": 1}}
    monkeypatch.setattr(presets, "MEMORY_PRESETS", {"any": memory})
    file = tmp_path / "settings.yaml"
    file.write_text("strategy: nft\nmicro_batch: 2\nlora_rank: 4\n")
    config = load("small", file, ["lora_rank=8"], 24)
    found = (config.lr, config.ema, config.epochs, config.tune, config.batch_size, config.micro_batch, config.lora_rank)
    assert found == (1.0, 0.2, 3, "lora", 9, 2, 8)
    assert load("small", None, []).epochs == 2, "another strategy has the settings of the model"
    assert load("large", None, ["strategy=nft"]).seed == 5
    assert load("small", file, ["strategy=sft"]).ema == 0.1, "--set decides the strategy too"


@pytest.mark.parametrize(("settings", "memory"), [(["tune=lora"], None), ([], 24)])
def test_an_adapter_has_a_learning_rate_of_its_own(settings: list[str], memory: int | None) -> None:
    assert load("large", None, settings, memory).lr == 1e-4
    assert load("large", None, [*settings, "tune=full"], memory).lr == 1e-6
    assert load("large", None, [*settings, "lr=2e-5"], memory).lr == 2e-5
    assert load("miniature", None, ["tune=lora", "strategy=nft"]).lr == 3e-4, "the table of a model replaces it"


@pytest.mark.parametrize("tune", ["nope", "[lora]"])
def test_a_wrong_tune_is_refused_as_any_other_setting(tune: str) -> None:
    with pytest.raises(RecipeError, match="tune"):
        load("large", None, [f"tune={tune}"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tau=0.6", "tau_quantile=0.5"], "leave one of them out"),
        (["tau={}"], "tau names no dimension"),
        (["tau=1.0"], "tau.*less than 1"),
        (["tau={mechanics: 1.5}"], "tau.by dimension.mechanics: must be less than 1"),
        (["tau={mechanics: high}"], "tau.by dimension.mechanics: must be a valid number"),
        (["tau=[0.5]"], "tau"),
        (["tau_quantile=1"], "tau_quantile.*less than 1"),
        (["tau_quantile=0"], "tau_quantile.*greater than 0"),
    ],
)
def test_thresholds_are_validated(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("miniature", None, settings)


@pytest.mark.parametrize("strategy", ["nope", "[nft]"])
def test_a_wrong_strategy_is_refused_as_any_other_setting(strategy: str) -> None:
    with pytest.raises(RecipeError, match="strategy"):
        load("miniature", None, [f"strategy={strategy}"])


def test_every_row_of_the_tables_is_a_valid_run() -> None:
    for model, by_strategy in presets.STRATEGY_DEFAULTS.items():
        for strategy, settings in by_strategy.items():
            found = load(model, None, [f"strategy={strategy}"]).model_dump()
            assert found.items() >= settings.items()


@pytest.mark.parametrize("setting", ["strategy=dpo", "strategy=backprop-online", "kl=moment", "prompt_dropout=0.1"])
def test_a_guided_loss_is_refused_where_it_has_no_meaning(setting: str) -> None:
    with pytest.raises(RecipeError, match="loss_guidance"):
        load("miniature", None, ["loss_guidance=3", setting])


def test_the_documentation_has_the_defaults_by_model_and_strategy() -> None:
    def cells(name: str, strategy: str, settings: dict[str, Any]) -> list[str]:
        return [name, strategy, ", ".join(f"`{key}` {text(value)}" for key, value in settings.items())]

    (lora,) = presets.TUNE_DEFAULTS.values()
    expected = [cells("an adapter (`tune` lora)", "all", lora)]
    expected += [cells(name, "all", settings) for name, settings in presets.MODEL_PRESETS.items()]
    for model, by_strategy in presets.STRATEGY_DEFAULTS.items():
        expected += [cells(model, f"`{name}`", settings) for name, settings in by_strategy.items()]
    assert tables("| for | strategy | settings |") == expected


def test_the_documentation_has_the_presets_by_model_gpu_and_number_of_gpus() -> None:
    named = {"Wan 2.1 1.3B": "any", "LTX-Video": "any", "Wan 2.1 14B": WAN_14B, "Wan 2.2 5B": WAN_5B}
    ways = {name: getattr(presets, name.upper()) for name in ("selective", "full", "lora", "lora_offloaded")}
    expected = [
        [name, str(size), str(processes), next(f"`{way}`" for way, same in ways.items() if same == settings)]
        for name, model in named.items()
        for (size, processes), settings in presets.MEMORY_PRESETS[model].items()
    ]
    assert [line[:4] for line in tables(PRESETS)] == expected
    shown = {
        way: ", ".join(f"`{key}` {text(value)}" for key, value in settings.items()) for way, settings in ways.items()
    }
    assert tables("| way | settings |") == [[f"`{way}`", settings] for way, settings in shown.items()]


def test_the_documentation_has_every_setting_once_with_its_default() -> None:
    documented: dict[str, str] = {}
    for names_cell, defaults_cell, _ in tables("| setting | default | what it does |"):
        names = re.findall(r"`(\w+)`", names_cell)
        defaults = defaults_cell.split(", ") if len(names) > 1 else [defaults_cell]
        defaults = defaults * len(names) if len(defaults) == 1 else defaults
        assert not documented.keys() & names
        documented |= dict(zip(names, defaults, strict=True))
    fields = TrainConfig.model_fields
    assert documented.keys() == fields.keys()
    for name, shown in documented.items():
        default = fields[name].default
        if default in (None, {}):  # a dash of text says what it is then
            continue
        text = shown.strip("`")
        same = text == default if isinstance(default, str) else json.loads(text) == default
        assert same, f"{name}: the documentation says {shown}, the default is {default}"
