"""Near duplicates among many prompts: candidates by MinHash find those that comparing all pairs finds."""

import random
from typing import Any

from rapidfuzz import process

from gigavideo_data.models.llm.templates import doubles
from gigavideo_data.reasons import Reason

THINGS = ("ball", "horse", "tram", "candle", "river", "postwoman", "kite", "bridge", "cup", "drummer", "fox", "lamp")
ACTIONS = ("rolls", "melts", "jumps", "burns", "turns", "falls", "sings", "drifts", "bends", "shines", "waits", "hides")
PLACES = ("meadow", "kitchen", "harbour", "forest", "station", "desert", "library", "garden", "tunnel", "market")


def prompts(number: int) -> list[str]:
    """Different sentences, and a variant of every tenth: one word more, other spelling, or other order."""
    rng = random.Random(0)
    texts = []
    for at in range(number):
        thing, action, place = rng.choice(THINGS), rng.choice(ACTIONS), rng.choice(PLACES)
        color, speed, letters = rng.randrange(10**6), rng.randrange(10**6), rng.choice("xyz")
        texts.append(f"a {color} {thing} {action} near the {place} {letters} at {speed}")
        if at % 10 == 0:
            changed = texts[rng.randrange(len(texts))].split()
            change = rng.choice((lambda words: [*words, "now"], lambda words: [w.upper() for w in words], sorted))
            texts.append(" ".join(change(changed)))
    return texts


def test_candidates_find_the_duplicates_that_comparing_all_pairs_finds(monkeypatch):
    texts = prompts(700)
    exact = doubles.doubles(texts, 0.85)
    assert {reason for reason in exact if reason} == {Reason.DUPLICATE, Reason.NEAR_DUPLICATE}
    monkeypatch.setattr(doubles, "MAX_COMPARED", 0)
    monkeypatch.setattr(doubles, "BLOCK", 64)
    found = doubles.doubles(texts, 0.85)
    missed = sum(one != other for one, other in zip(exact, found, strict=True))
    assert missed <= 0.05 * sum(reason is not None for reason in exact)
    assert all(one == other for one, other in zip(exact, found, strict=True) if other), "candidates are compared too"
    assert doubles.doubles(["", "...", "a ball"], 0.85) == [None, Reason.DUPLICATE, None]


def test_few_pairs_are_compared(monkeypatch):
    compared: list[int] = []

    def counting(text: str, earlier: list[str], **options: Any) -> Any:
        compared.append(len(earlier))
        return extract(text, earlier, **options)

    extract = process.extractOne
    monkeypatch.setattr(process, "extractOne", counting)
    monkeypatch.setattr(doubles, "MAX_COMPARED", 0)
    texts = prompts(1000)
    doubles.doubles(texts, 0.9)
    assert 0 < sum(compared) < len(texts) ** 2 / 2 / 4
