from collections import Counter

from gigavideo_train.data.batches import batches, num_steps, portions
from gigavideo_train.data.samples import Unit


def unit(name: int, num_frames: int = 17, height: int = 48, real_frames: int | None = None) -> Unit:
    row = {"id": f"{name:032x}", "source": "synthetic", "num_frames": num_frames, "height": height, "width": 48}
    return Unit(row, real=row | {"num_frames": real_frames} if real_frames else None)


UNITS = [unit(i, 17 if i % 3 else 9) for i in range(20)]


def test_every_unit_is_visited_once_per_epoch_in_another_order() -> None:
    made = list(batches(UNITS, 3, 4, seed=0))
    for epoch in range(3):
        visited = [u.id for b in made if b.epoch == epoch for u in b.units]
        assert Counter(visited) == Counter(u.id for u in UNITS)
    orders = {tuple(u.id for b in made if b.epoch == epoch for u in b.units) for epoch in range(3)}
    assert len(orders) == 3


def test_the_order_is_a_function_of_the_seed_and_not_of_the_list() -> None:
    first = [[u.id for u in b.units] for b in batches(UNITS, 1, 4, seed=5)]
    assert [[u.id for u in b.units] for b in batches(UNITS[::-1], 1, 4, seed=5)] == first
    assert [[u.id for u in b.units] for b in batches(UNITS, 1, 4, seed=6)] != first


def test_a_batch_holds_clips_of_one_shape_and_their_real_ones_of_one_shape_too() -> None:
    mixed = [*UNITS, *(unit(20 + i, height=32) for i in range(9))]
    mixed += [unit(30 + i, real_frames=(5, 9, 17)[i % 3]) for i in range(20)]
    made = list(batches(mixed, 1, 4, seed=0))
    for batch in made:
        assert len({(u.row["num_frames"], u.row["height"]) for u in batch.units}) == 1
        assert len({u.real and u.real["num_frames"] for u in batch.units}) == 1
        assert len(batch.units) <= 4
    assert Counter(u.id for b in made for u in b.units) == Counter(u.id for u in mixed)


def test_steps_are_counted_with_small_last_batches() -> None:
    assert num_steps(UNITS, 2, 4, None) == 2 * (2 + 4)  # 7 short clips and 13 long ones
    assert num_steps(UNITS, 2, 4, 5) == 5
    assert sum(1 for _ in batches(UNITS, 2, 4, seed=0)) == 12


def test_all_processes_make_the_same_number_of_passes_and_share_a_batch() -> None:
    for number in range(1, 9):
        for size in (1, 2, 3, 5):
            for micro_batch in (None, 1, 2):
                shares = [portions(UNITS[:number], rank, size, micro_batch) for rank in range(size)]
                assert len({len(share) for share in shares}) == 1
                passed = [u.id for share in shares for one in share for u in one]
                assert Counter(passed) == Counter(u.id for u in UNITS[:number])
                assert all(len(one) <= (micro_batch or number) for share in shares for one in share)
    assert portions(UNITS[:4], 0, 1, None) == [UNITS[:4]]
