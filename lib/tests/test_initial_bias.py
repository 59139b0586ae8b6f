"""The chapter on the initial bias mean: its verdicts on planted runs and on the recorded ones."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook.chapters import initial_bias as room
from bcebook.paths import REPOSITORY
from bcebook.runs.store import Run, open_store
from bcebook.science.summaries import score_summary


def planted(config, start: float, end: float, positive: float = 9.0, negative: float = -1.0) -> Run:
    """A run whose mean bias goes from start to end, with these medians of scores."""
    kinds = {"positive": positive, "negative": negative, "bias": end}
    scores = {kind: score_summary(torch.full((10,), float(value))).to_dict() for kind, value in kinds.items()}
    return Run(config, {"epoch": [0.0, 1.0], "bias_mean": [start, end]}, {}, {}, {"train": scores, "test": scores}, {})


@pytest.fixture
def sweep():
    """sweep(end) plants a sweep of one optimizer in which a start becomes end(loss, start)."""
    configs = [c for c in room.ROOM.configs("laptop") if c.dataset == "cifar10" and c.optimizer == "sgd"]

    def make(end):
        return [planted(c, c.bias_init_mean, end(c.loss, c.bias_init_mean)) for c in configs]

    return make


def verdicts(runs) -> list[str]:
    return [claim.judge(runs).verdict for claim in room.ROOM.claims]


def test_each_verdict_follows_from_its_cause(sweep):
    as_claimed = sweep(lambda loss, start: start if loss == "ce" else 5.0 + 0.01 * start)
    assert verdicts(as_claimed) == ["supported", "supported", "supported"]
    kept = sweep(lambda loss, start: start if loss == "ce" else 4.0 + 0.4 * start)  # BCE keeps two fifths of its start
    assert verdicts(kept) == ["supported", "supported", "contradicted"]
    outside = sweep(lambda loss, start: start + 1 if loss == "ce" else (5.0 if start else -3.0))
    assert verdicts(outside) == ["contradicted"] * 3
    assert verdicts([r for r in as_claimed if r.config.loss == "ce"]) == ["supported", "not run", "not run"]
    assert verdicts(as_claimed[:1])[2] == "not run"  # one start says nothing about others
    assert verdicts([]) == ["not run"] * 3
    control = room.ROOM.claims[1].judge(as_claimed).control  # CE's bias between the scores: only where it was put there
    assert control.verdict == "contradicted" and control.detail == "3 of 4 runs"
    assert room.ROOM.claims[0].judge(as_claimed).value == 0 and room.ROOM.claims[2].judge(kept).value == pytest.approx(4)


def test_tables_and_figure_show_the_planted_numbers(sweep):
    runs = sweep(lambda loss, start: start if loss == "ce" else 4.0 + 0.4 * start)
    frame = room.slopes(runs).frame.set_index("setting")
    assert frame["ours"].to_dict() == pytest.approx({"CE, SGD": 1.0, "BCE, SGD": 0.4})
    assert frame.loc["CE, SGD", "ResNet18"] == pytest.approx(1, abs=0.02)  # the paper's CE stays
    ends = room.ends(runs).frame.set_index("setting")
    assert (ends.loc["BCE, SGD", "bias_least"], ends.loc["BCE, SGD", "bias_most"]) == (4.0, 8.0)
    assert ends.loc["BCE, SGD", "bias_closed"] == pytest.approx(5.2807, abs=1e-3) and np.isnan(ends.loc["CE, SGD", "bias_closed"])
    for part in (runs, runs[:1], runs[:3]):
        plt.close(room.bias_sweep(part))
        assert all("nan" not in view(part).markdown() for view in room.ROOM.tables)
    other = [dataclasses.replace(r, config=dataclasses.replace(r.config, dataset="mnist", epochs=10)) for r in runs[:2]]
    assert "ResNet8 on MNIST" in room.ends(runs + other).markdown() and "ResNet8" not in room.ends(runs).markdown()


def test_the_recorded_sweep_says_what_its_files_say():
    """Recomputed from the histories alone, without the library's summaries."""
    store = open_store(REPOSITORY / "data")
    runs = [run for config in room.ROOM.configs("laptop") if (run := store.find(config))]
    assert len(runs) == 32
    moves = {loss: max(abs(r.history["bias_mean"][-1] - r.history["bias_mean"][0]) for r in runs if r.config.loss == loss)
             for loss in ("ce", "bce")}
    finding = room.ce_stays(runs)
    assert finding.value == moves["ce"] < 0.1 < moves["bce"] == finding.control.value
    assert [finding.verdict, room.bce_between(runs).verdict, room.bce_forgets(runs).verdict] == ["supported", "supported", "contradicted"]
