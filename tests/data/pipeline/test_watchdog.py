"""The watchdog: a row is stuck when its worker lives and sends no heartbeat for much longer than usual."""

from dataclasses import dataclass

import pytest

from gigavideo_data import heartbeat
from gigavideo_data.errors import RunError
from gigavideo_data.models.registry import quiet_s
from gigavideo_data.pipeline.execution import reports
from gigavideo_data.pipeline.execution.reports import Pulse, Report, Reporter, take_reports, worker_name
from gigavideo_data.pipeline.execution.watchdog import GONE_S, LOADING_S, WAITING_S, Watchdog


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Stage:
    """One worker and the driver's watchdog, which look at the same clock every five seconds."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pulse = Pulse(self.clock)
        self.watchdog = Watchdog("synthesize", {"key": "row-17"}, 300, self.clock)
        self.number = 0

    def watch(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            self.clock.wait(5)
            self.number += 1
            self.watchdog.check([self.pulse.report("node GPU 3", self.number)])


def test_a_row_without_a_heartbeat_for_300_s_is_stuck_and_the_message_names_it():
    stage = Stage()
    with stage.pulse.row("key"):
        stage.watch(300)
        with pytest.raises(RunError, match=r"synthesize: row row-17 is stuck on node GPU 3 \(process \d+\)") as caught:
            stage.watch(5)
    assert "its last heartbeat was 305 s ago and the limit is 300 s" in str(caught.value)
    assert "limits.stall_s" in str(caught.value)


def test_a_row_of_any_length_is_not_stuck_while_heartbeats_come():
    stage = Stage()
    with stage.pulse.row("key"):
        for _ in range(50):  # the denoising steps of one video of HunyuanVideo
            stage.watch(40)
            stage.pulse.beat()
        assert stage.clock.now == 2000
        stage.watch(20 * 40)
        with pytest.raises(RunError, match="the limit is 800 s"):
            stage.watch(5)


def test_the_median_gap_is_that_of_all_workers_of_the_stage():
    clock = Clock()
    watchdog = Watchdog("judge", {}, 300, clock)
    watchdog.check([Report(f"node GPU {at}", at, 1, row="key", gap_s=gap_s) for at, gap_s in enumerate((1, 50, 90))])
    assert watchdog.limit_s == 20 * 50
    watchdog.check([Report("node GPU 9", 9, 1, row="key", quiet_s=1000)])
    with pytest.raises(RunError, match="stuck on node GPU 9"):
        watchdog.check([Report("node GPU 9", 9, 2, row="key", quiet_s=1001)])


def test_loading_is_not_the_time_of_a_row():
    stage = Stage()
    with stage.pulse.loading():
        stage.watch(3 * 3600)
        stage.pulse.beat()  # a fetched file
    with stage.pulse.row("key"):
        stage.watch(100)
        stage.pulse.beat()
    assert stage.pulse.report("w", 0).gap_s == 100, "the gaps of loading do not count"
    with stage.pulse.loading():
        stage.watch(LOADING_S)
        with pytest.raises(RunError, match=r"the engine on node GPU 3 .* is not loaded after"):
            stage.watch(5)


def test_an_engine_without_heartbeats_sends_one_at_the_end_of_a_row():
    stage = Stage()
    for _ in range(2):
        with stage.pulse.row("key"):
            stage.watch(250)
        stage.watch(100)  # a task of another engine, or waiting
    assert stage.pulse.report("w", 0).gap_s == 250
    for _ in range(5):
        with stage.pulse.row("key"):
            stage.watch(10)
            stage.pulse.beat()
    assert stage.pulse.report("w", 0).gap_s == 10, "the end of these rows is no heartbeat of its own"


def test_the_row_of_a_worker_that_is_gone_is_not_stuck_but_a_run_without_any_work_ends():
    clock = Clock()
    watchdog = Watchdog("judge", {}, 300, clock)
    killed = Report("node process 1", 1, 7, row="key", quiet_s=20)
    watchdog.check([killed])
    for _ in range(WAITING_S // GONE_S):
        clock.wait(GONE_S)
        watchdog.check([killed])
    watchdog.progressed()  # Ray gave its rows to another one
    clock.wait(WAITING_S)
    watchdog.check([killed])
    clock.wait(1)
    with pytest.raises(RunError, match=f"judge: no row finished and no worker was at work for {WAITING_S} s"):
        watchdog.check([killed])


def test_a_slow_recipe_is_watched_by_its_own_limit_alone():
    clock = Clock()
    watchdog = Watchdog("judge", {}, 7200, clock)
    for number in range(1, 120):  # longer than a run may wait for a worker
        clock.wait(GONE_S)
        watchdog.check([Report("node process 1", 1, number, row="key", quiet_s=number * GONE_S)])


def test_a_worker_reports_while_a_task_takes_long_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "REPORT_S", 0.01)
    pulse = Pulse()
    reporter = Reporter(tmp_path / "reports", "node GPU 3", pulse)
    with reporter.reporting(), heartbeat.listening(pulse.beat), pulse.row("key"):
        heartbeat.beat()
        numbers: set[int] = set()
        while len(numbers) < 2:
            for report in take_reports(tmp_path / "reports"):
                assert (report.worker, report.row) == ("node GPU 3", "key")
                numbers.add(report.number)
    assert take_reports(tmp_path / "reports") == []
    monkeypatch.setattr(reports, "REPORT_S", 60)
    with reporter.reporting():
        pass
    heartbeat.beat()  # nobody listens
    assert not list((tmp_path / "reports").glob("*.json"))


def test_what_may_be_at_fault_is_a_gpu_where_the_worker_has_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert worker_name(gpus=1).endswith(" GPU 3")
    assert "process" in worker_name(gpus=0)


def test_endpoints_and_plugins_may_be_silent_for_longer_than_models_of_this_process():
    assert quiet_s("judge", "transformers") == quiet_s("generator", "diffusers") == 0
    assert quiet_s("judge", "http") == quiet_s("writer", "http") == quiet_s("generator", "a plug-in") == 1800
