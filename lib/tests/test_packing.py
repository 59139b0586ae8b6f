"""How many runs share a GPU, and what happens when its memory runs out all the same; on a CPU, its memory made up."""

import math

import pytest
import torch

from bcebook.execution import choose
from bcebook.execution.turns import Turns
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore, open_store
from bcebook.training import gpu, loop, sessions
from bcebook.training.sessions import how_many, train_together


def fails(*args, **options):
    raise RuntimeError("CUDA error: not here")


def _out_of_memory(*args, **options):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_how_many_runs_fit():
    assert how_many(10_000, 1_000, 8) == 8 and how_many(10_000, 1_001, 8) == 7 and how_many(10_000, 3_000, 8) == 2
    assert how_many(100, 3_000, 8) == 1 == how_many(0, 1, 8) == how_many(10**12, 1, 1) and how_many(10, 0, 8) == 8


@pytest.fixture
def crowd(monkeypatch):
    """crowd(): the most runs that have shared the process. Its memory holds `crowd.free` bytes and a run takes 100."""
    alive, most, step = set(), [0], loop.Training.step

    def counted(self):
        alive.add(self.config)
        most[0] = max(most[0], len(alive))
        step(self)
        if self.done:
            alive.discard(self.config)

    def count():
        return most[0]

    count.free, count.measured = 500, 0
    monkeypatch.setattr(gpu, "_TOLD", set())
    monkeypatch.setattr(loop.Training, "step", counted)
    taken = lambda *args: 100 * len(alive)  # noqa: E731
    for name, value in {"empty_cache": lambda: None, "reset_peak_memory_stats": lambda device: None,
                        "synchronize": lambda device: None, "memory_allocated": taken, "memory_reserved": taken,
                        "max_memory_allocated": taken, "max_memory_reserved": taken,
                        "mem_get_info": lambda device: (count.free - taken(), 1000)}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return count


def _stored(store: RunStore, configs: list[RunConfig]) -> str:
    return repr([(run.history, run.final, run.best, run.scores) for run in map(store.find, configs)])


def test_as_many_are_packed_as_fit_and_no_more(small, tmp_path, crowd):
    configs = [small(epochs=1, batch_size=16, loss=loss, seed=seed) for loss in ("ce", "bce") for seed in range(4)]
    assert train_together(configs, open_store(tmp_path), "cpu", 6, progress=False, measured=True) == []
    assert crowd() == 4 and all(map(open_store(tmp_path).find, configs))


def test_memory_that_cannot_be_measured_means_one_at_a_time(small, tmp_path, crowd, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", fails)
    configs = [small(epochs=1, seed=seed, batch_size=size) for seed in range(2) for size in (16, 20)]
    with pytest.warns(UserWarning) as said:
        assert train_together(configs, open_store(tmp_path), "cpu", 6, progress=False, measured=True) == []
    assert [str(each.message)[:57] for each in said] == ["the packing of runs by the memory they take cannot be use"]
    assert crowd() == 1


def test_out_of_memory_halves_the_packing_and_loses_and_doubles_nothing(small, tmp_path, crowd, monkeypatch):
    configs, saved, steps = [small(epochs=2, seed=seed) for seed in range(5)], [], []
    expected = open_store(tmp_path / "1")
    assert train_together(configs, expected, "cpu", 1, progress=False) == []

    def update(self, *given, real=loop.Training._mini_batch):
        real(self, *given)  # it has changed the model when it fails
        steps.append(self.config.seed)
        if steps.count(2) == 4 and steps[-1] == 2:
            _out_of_memory()

    monkeypatch.setattr(sessions, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(loop.Training, "_mini_batch", update)
    save = RunStore.save
    monkeypatch.setattr(RunStore, "save", lambda self, run: (saved.append(run.config), save(self, run)))
    store = open_store(tmp_path / "2")
    sentence = "memory ran out with 4 runs at once .*Tried to allocate.*; on with 2"
    with pytest.warns(UserWarning, match=sentence) as said:
        assert train_together(configs, store, "cpu", 4, progress=False) == []
    assert len(said) == 1 and _stored(store, configs) == _stored(expected, configs)
    assert sorted(config.seed for config in saved) == [0, 1, 2, 3, 4] and not list(store.root.glob(".checkpoints/*"))
    resumed = [store.find(config).environment["resumed"] for config in configs]
    assert resumed == [0, 0, 1, 1, 0]


def test_a_run_that_does_not_fit_alone_is_a_sentence_and_no_recorded_failure(small, tmp_path, monkeypatch):
    configs = [small(epochs=1, seed=seed) for seed in range(3)]
    step = loop.Training.step
    monkeypatch.setattr(loop.Training, "step", lambda self: _out_of_memory() if self.config.seed == 1 else step(self))
    store = open_store(tmp_path)
    with pytest.warns(UserWarning, match="on with 1"):
        problems = train_together(configs, store, "cpu", 3, progress=False)
    assert len(problems) == 1 and "does not fit into the memory that is free, even alone" in problems[0]
    assert [store.state(config) for config in configs] == ["trained", "missing", "trained"]


def test_a_gpu_has_one_run_at_a_time_unless_a_person_asks_for_more_and_then_what_fits(small, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(loop, "resolve", lambda device: torch.device(device))
    monkeypatch.setattr(Turns, "run", lambda self, configs, deadline: found.append(self) or [])
    configs = [small(seed=seed) for seed in range(20)]
    for jobs in (None, 3):
        assert choose.train_missing(configs, tmp_path, "cuda:1", jobs, math.inf) == []
    assert found == [Turns(tmp_path, "cuda:1", 1, False), Turns(tmp_path, "cuda:1", 3, True)]
