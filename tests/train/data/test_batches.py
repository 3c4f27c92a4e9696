from collections import Counter
from typing import Any

from gigavideo_train.data.batches import batches, num_steps, portions
from gigavideo_train.data.samples import Sample


def sample(name: int, num_frames: int = 17, height: int = 48, real_frames: int | None = None) -> Sample:
    row: Any = {"id": f"{name:032x}", "source": "synthetic", "num_frames": num_frames, "height": height, "width": 48}
    return Sample(row, real=row | {"num_frames": real_frames} if real_frames else None)


NUM_SAMPLES = [sample(i, 17 if i % 3 else 9) for i in range(20)]


def test_every_sample_is_visited_once_per_epoch_in_another_order() -> None:
    made = list(batches(NUM_SAMPLES, 3, 4, seed=0))
    for epoch in range(3):
        visited = [u.id for b in made if b.epoch == epoch for u in b.samples]
        assert Counter(visited) == Counter(u.id for u in NUM_SAMPLES)
    orders = {tuple(u.id for b in made if b.epoch == epoch for u in b.samples) for epoch in range(3)}
    assert len(orders) == 3


def test_the_order_is_a_function_of_the_seed_and_not_of_the_list() -> None:
    first = [[u.id for u in b.samples] for b in batches(NUM_SAMPLES, 1, 4, seed=5)]
    assert [[u.id for u in b.samples] for b in batches(NUM_SAMPLES[::-1], 1, 4, seed=5)] == first
    assert [[u.id for u in b.samples] for b in batches(NUM_SAMPLES, 1, 4, seed=6)] != first


def test_a_batch_holds_clips_of_one_shape_and_their_real_ones_of_one_shape_too() -> None:
    mixed = [*NUM_SAMPLES, *(sample(20 + i, height=32) for i in range(9))]
    mixed += [sample(30 + i, real_frames=(5, 9, 17)[i % 3]) for i in range(20)]
    made = list(batches(mixed, 1, 4, seed=0))
    for batch in made:
        assert len({(u.row["num_frames"], u.row["height"]) for u in batch.samples}) == 1
        assert len({u.real and u.real["num_frames"] for u in batch.samples}) == 1
        assert len(batch.samples) <= 4
    assert Counter(u.id for b in made for u in b.samples) == Counter(u.id for u in mixed)


def test_steps_are_counted_with_small_last_batches() -> None:
    assert num_steps(NUM_SAMPLES, 2, 4, None) == 2 * (2 + 4)  # 7 short clips and 13 long ones
    assert num_steps(NUM_SAMPLES, 2, 4, 5) == 5
    assert sum(1 for _ in batches(NUM_SAMPLES, 2, 4, seed=0)) == 12


def test_all_processes_make_the_same_number_of_passes_and_share_a_batch() -> None:
    for number in range(1, 9):
        for size in (1, 2, 3, 5):
            for micro_batch in (None, 1, 2):
                shares = [portions(NUM_SAMPLES[:number], rank, size, micro_batch) for rank in range(size)]
                assert len({len(share) for share in shares}) == 1
                passed = [u.id for share in shares for one in share for u in one]
                assert Counter(passed) == Counter(u.id for u in NUM_SAMPLES[:number])
                assert all(len(one) <= (micro_batch or number) for share in shares for one in share)
    assert portions(NUM_SAMPLES[:4], 0, 1, None) == [NUM_SAMPLES[:4]]
