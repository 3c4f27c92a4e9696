"""What a planned run prints before it starts: `gv-train --dry-run`."""

from __future__ import annotations

from rich.console import Console

from gigavideo_data.dataset.cost import per_effective_sample
from gigavideo_data.io import terminal
from gigavideo_train.plan import NOTHING_TO_COMPARE, Facts

LOW_BETA, MANY_TIMES = 0.2, 4  # below this nft_beta, few clips that are seen more often than this are memorised


def warnings(facts: Facts) -> list[str]:
    """One sentence for each trained dimension whose judge sanity check failed, and one for a low nft_beta."""
    config = facts["config"]
    effect = (
        "it is left out" if config["skip_unchecked"] else "its rewards may be noise; --skip-unchecked leaves it out"
    )
    found = [f"{name}: the judge sanity check failed ({why}), so {effect}" for name, why in facts["unreliable"].items()]
    times_seen = facts["steps"] * config["batch_size"] / facts["kept"]
    if config["strategy"] == "nft" and config["nft_beta"] < LOW_BETA and times_seen > MANY_TIMES:
        found.append(
            f"nft_beta {config['nft_beta']:g} is below {LOW_BETA} and each clip is seen {times_seen:.0f} times: few "
            "clips may be memorised; raise nft_beta, or train fewer steps"
        )
    return found


def _hint(spread: Facts) -> str:
    """What to change where no group has different rewards."""
    if spread["always_right"] == 1:
        return " All samples are right: write harder prompts, or leave the dimension out."
    if spread["always_wrong"] == 1:
        return " All samples are wrong: write easier prompts, or start from a better model."
    return ""


def _kept_above(tau: dict[str, float]) -> str:
    """The rewards above which samples are kept: one number if it is the same for all dimensions."""
    if not tau:
        return ""
    if len({*tau.values()}) == 1:
        return f", kept above {next(iter(tau.values())):.3g}"
    each = (f"{number:.3g} ({terminal.words(name)})" for name, number in sorted(tau.items()))
    return f", kept above {', '.join(each)}"


def show(facts: Facts, console: Console) -> None:
    """Print a plan."""
    config, weights, cost = facts["config"], facts["weights"], facts["cost_per_sample"]
    model = facts["model"] + (f" at {facts['model_commit'][:12]}" if facts["model_commit"] else "")
    model += f" with adapter {facts['adapter']}" if facts["adapter"] else ""
    judge = f", judged by {facts['judge']['model']}" if facts["judge"] else ""
    dataset = f"{facts['version']} ({facts['commit'][:12]})" if facts["version"] else facts["dataset"]
    lines = [
        f"{config['strategy']} of {model} ({config['tune']}){judge} on dataset {dataset}, recipe {facts['recipe']}"
    ]
    if facts["memory"]:
        preset = ", ".join(f"{key} {config[key]}" for key in facts["preset"]) or "none for this model"
        number = f", {facts['processes']} processes" if facts["processes"] > 1 else ""
        lines.append(f"preset for {facts['memory']} GB of GPU memory{number}: {preset}")
    lines += terminal.targets_and_others(facts["targets"], facts["others"])
    samples = terminal.Table("Samples", "source", "dimension", ">kept", "dropped")
    for line in facts["samples"]:
        why = ", ".join(f"{number} {reason}" for reason, number in line["dropped"].items())
        samples.add(line["source"], terminal.words(line["dimension"]), line["kept"], why)
    columns = ("dimension", ">groups", ">differ", ">samples", ">std", ">right", ">wrong")
    groups = terminal.Table("Groups of samples of a prompt", *columns)
    for each in facts["spread"]:
        total = each["with_spread"] + each["without_spread"]
        shares = (f"{each['std']:.2f}", f"{each['always_right']:.0%}", f"{each['always_wrong']:.0%}")
        groups.add(terminal.words(each["dimension"]), total, each["with_spread"], each["samples"], *shares)
    reward = "mean over the trained dimensions" if config["reward"] == "mean" else "column `reward` of the dataset"
    bars = "".join(" ▁▂▃▄▅▆▇█"[-(-8 * n // max(weights["histogram"]))] for n in weights["histogram"])
    after = [
        f"reward of a sample: {reward}{_kept_above(facts['tau'])}",
        f"latents: the sampler's own for {facts['latents']['own']} clips; {facts['latents']['encoded']} are encoded",
        f"weights {weights['least']:.2f} to {weights['most']:.2f} |{bars}|, effective sample size "
        f"{facts['effective_size']:.0f} of {facts['kept']}"
        + (f", in {facts['groups']} groups that are compared" if facts["groups"] else ""),
        *([f"cost of the dataset: {per_effective_sample(cost)}"] if cost else []),
        f"{facts['steps']} steps of {config['batch_size']} samples at learning rate {config['lr']:g}; "
        f"{facts['passes_per_epoch']} forward passes per epoch",
    ]
    if facts["held_out"]:
        share = config["validate_share"]
        limit = f", in at most {share:.0%} of the run's time" if share else ""
        after.append(f"validation loss on {facts['held_out']} samples every {config['validate_every']} steps{limit}")
    if facts["sample_judges"]:
        judges = ", ".join(sorted(set(facts["sample_judges"].values())))
        after.append(f"sample clips of held-out prompts judged by {judges} every {config['sample_every']} steps")
    nothing = [
        f"{terminal.words(each['dimension'])}: {NOTHING_TO_COMPARE}{_hint(each)}"
        for each in facts["spread"]
        if not each["with_spread"]
    ]
    for part in (*map(terminal.plain, lines), samples, groups, *map(terminal.plain, (*nothing, *after))):
        console.print(part)
    if facts.get("estimate"):
        _show_estimate(facts["estimate"], console)


def _show_estimate(estimate: Facts, console: Console) -> None:
    """Print the memory of a GPU, part by part."""
    table = terminal.Table("Estimated GPU memory, each at its fullest moment", "stage", "part", ">GB")
    for stage, parts in estimate["stages"].items():
        for part, size in parts.items():
            table.add(stage, part, f"{size / 1e9:.1f}")
    console.print()
    console.print(table)
    flops = f"{estimate['flops'] / 1e12:.4g} TFLOP a forward pass"
    trained = f"{estimate['trained'] / 1e9:.4g} of {estimate['parameters'] / 1e9:.4g} billion parameters are trained"
    console.print(terminal.plain(f"{trained}; {flops} of a clip"))
