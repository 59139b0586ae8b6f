"""The chapter on accuracies: verdicts on planted runs, the paper's table counted a second way, the recorded runs."""

import csv
import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from bcebook.chapters import accuracy as room
from bcebook.chapters import recipes
from bcebook.paths import REPOSITORY
from bcebook.report import claims, frames, markdown
from bcebook.runs.store import Run
from bcebook.science.summaries import score_summary

IMAGES = 355  # in the test set of the digits: one is 0.28 points
NAMES = ("higher_accuracy", "higher_uniform", "table_accuracy", "table_uniform")


def planted(config, accuracy: float, uniform: float, seen: int | None = None) -> Run:
    """A run with these test accuracies; seen: after how many of its epochs (None: all) the test set was measured."""
    epochs = list(range(config.epochs + 1))
    looked = set(range(config.epochs + 1 - (config.epochs if seen is None else seen), config.epochs + 1)) | {0}
    values = [accuracy if epoch in looked else math.nan for epoch in epochs]
    scores = {kind: score_summary(torch.full((IMAGES,), 1.0)).to_dict() for kind in ("positive", "negative", "bias")}
    final = {"test_accuracy": accuracy, "test_uniform_accuracy": uniform}
    history = {"epoch": [float(e) for e in epochs], "test_accuracy": values}
    return Run(config, history, final, {name: value + 0.001 for name, value in final.items()},
               {"train": scores, "test": scores}, {"date": "2026-01-01"})


@pytest.fixture
def quick():
    """quick(gain) plants the quick profile with five seeds: BCE's accuracy and uniform accuracy are above CE's by
    gain(setting, seed), setting counted from 0; CE's own go up and down with the seed."""
    settings = [(a, o) for a in recipes.PROFILES["quick"].augmentations for o in recipes.OPTIMIZERS]

    def make(gain):
        runs = []
        for config in (each for seed in range(5) for each in recipes.classification("quick", seed)):
            base = 0.9 + 0.01 * math.sin(config.seed)  # the seed's own part, which pairing takes out
            up = gain(settings.index((config.augmentation, config.optimizer)), config.seed)
            a, u = up if config.loss == "bce" else (0.0, 0.0)
            runs.append(planted(config, base + a, base - 0.1 + u))
        return runs

    return make


def judged(runs) -> dict:
    return {each.name.removeprefix("accuracy."): each.finding for each in claims.judge(room.ROOM.claims, runs)}


def verdicts(runs) -> list[str]:
    return [judged(runs)[name].verdict for name in NAMES[:2]]


def wobble(seed: int) -> float:
    return 0.002 * math.cos(2.5 * seed)


def test_each_verdict_follows_from_its_cause(quick):
    better = quick(lambda setting, seed: (0.01 + wobble(seed), 0.05 + wobble(seed)))
    assert verdicts(better) == ["supported", "supported"]
    worse = quick(lambda setting, seed: (-0.01 + wobble(seed), -0.05 + wobble(seed)))
    assert verdicts(worse) == ["contradicted", "contradicted"]
    # Three settings of four: most, but not all; the fourth is lower by more than chance, or level.
    most = quick(lambda setting, seed: ((0.01 if setting else -0.01) + wobble(seed),) * 2)
    assert verdicts(most) == ["supported", "contradicted"]
    level = quick(lambda setting, seed: ((0.01 if setting else 0.0) + wobble(seed),) * 2)
    assert verdicts(level) == ["supported", "undecided"]
    half = quick(lambda setting, seed: ((0.01 if setting > 1 else -0.01) + wobble(seed),) * 2)
    assert verdicts(half)[0] == "contradicted"  # half of them lower: most cannot be higher
    noise = quick(lambda setting, seed: (0.02 * math.cos(2.5 * seed),) * 2)
    assert verdicts(noise) == ["undecided"] * 2
    one_seed = [run for run in better if run.config.seed == 0]
    assert verdicts(one_seed) == ["undecided"] * 2
    for nothing in ([], [run for run in better if run.config.loss == "ce"], better[:1]):
        assert verdicts(nothing) == ["not run"] * 2


def test_a_missing_published_number_never_decides(quick):
    """BCE higher is the claim, where the paper has a number as where it has none (the referee's first point)."""
    runs = quick(lambda setting, seed: (0.01 + wobble(seed), 0.05 + wobble(seed)))
    plain = [dataclasses.replace(run, config=dataclasses.replace(run.config, augmentation="none"))
             for run in runs if run.config.augmentation == "da1"]
    assert np.isnan(room.gaps(plain).frame["paper"]).all()
    assert verdicts(plain) == ["supported"] * 2
    text = "".join(table(plain).markdown() for table in room.ROOM.tables)
    text += markdown.findings(claims.judge(room.ROOM.claims, plain))
    assert "nan" not in text and "None" not in text and "none of these settings" in text


def test_holm_takes_back_what_one_test_alone_would_give(quick):
    """Each setting at p = 0.03: supported by itself, undecided among four; the drawn interval is the deciding one."""
    values = np.array([1.0, -0.6, 0.9, -0.4, -0.9])
    values -= values.mean()
    shift = scipy.optimize.brentq(lambda x: scipy.stats.ttest_1samp(values + x, 0).pvalue - 0.03, 0.1, 5)
    runs = quick(lambda setting, seed: (0.003 * (values[seed] + shift),) * 2)
    finding = judged(runs)["higher_uniform"]
    assert [part.verdict for part in finding.parts] == ["supported"] * 4 and finding.verdict == "undecided"
    assert [part.adjusted for part in finding.parts] == ["undecided"] * 4
    assert all(part.p == pytest.approx(0.03, abs=1e-6) for part in finding.parts)
    low, high = scipy.stats.t.interval(0.95, 4, loc=0.003 * shift, scale=0.003 * values.std(ddof=1) / math.sqrt(5))
    assert all((part.low, part.high) == pytest.approx((low, high)) for part in finding.parts)
    figure = room.accuracy_differences(runs)
    bars = [np.asarray(segment)[:, 0] for ax in figure.axes for c in ax.collections if hasattr(c, "get_segments")
            for segment in c.get_segments() if len(segment) == 2]
    assert len(bars) == 8 and all(bar == pytest.approx([100 * low, 100 * high]) for bar in bars)
    plt.close(figure)


def test_a_difference_is_told_in_images_too(quick):
    runs = [r for r in quick(lambda setting, seed: (3 / IMAGES, 7 / IMAGES)) if r.config.seed == 0]
    frame = room.gaps(runs).frame
    assert frame[frame["measure"] == "accuracy"]["images"].tolist() == pytest.approx([3.0] * 4)
    assert frame[frame["measure"] == "uniform_accuracy"]["images"].tolist() == pytest.approx([7.0] * 4)
    assert set(frame["of"]) == {IMAGES} and "0.28 points on digits" in room.gaps(runs).markdown()
    assert frame["paper"].tolist()[:2] == pytest.approx([0.004, 0.067])  # ResNet18, CIFAR10, SGD, DA1, off the table


def test_best_is_worded_as_what_it_is(quick):
    runs = quick(lambda setting, seed: (0.01, 0.02))
    assert room.looked_at(runs) == "all epochs" and "over all epochs, chosen" in room.final_and_best(runs).markdown()
    some = [planted(run.config, 0.9, 0.8, seen=7) for run in runs]
    assert room.looked_at(some) == "those 7 of 40 epochs that were measured"
    both = room.looked_at(runs[:4] + some[4:])
    assert "all epochs (" in both and "those 7 of 40" in both
    assert "ResNet18 on CIFAR10" in room.final_and_best(runs).markdown()  # what the paper's columns are of


def test_the_papers_own_tables_are_counted():
    """Counted a second time from the file's own lines."""
    with open(REPOSITORY / "data" / "paper" / "cifar_accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    for name, column in (("table_accuracy", "accuracy"), ("table_uniform", "uniform_accuracy")):
        gaps = []
        for row in rows:
            other, = [r for r in rows if r["loss"] != row["loss"] and all(
                r[key] == row[key] for key in ("dataset", "model", "optimizer", "augmentation"))]
            if row["loss"] == "BCE":
                gaps.append(round(10 * float(row[column])) - round(10 * float(other[column])))
        wins, losses = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
        finding = judged([])[name]
        assert finding.p == pytest.approx(scipy.stats.binomtest(wins, wins + losses).pvalue)
        assert f"above CE in {wins}, below in {losses}, level in {24 - wins - losses}" in finding.detail
        assert finding.verdict == "supported" and "independent" in finding.detail
    assert room.published().frame.shape == (6, 9) and "nan" not in room.published().markdown()


def test_every_published_accuracy_stands_on_the_page_and_ours_beside_it():
    """All rows of the file are in one table; a run of the same setting fills its own cells and no other."""
    with open(REPOSITORY / "data" / "paper" / "cifar_accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    alone = room.whole([])
    assert len(alone.frame) == 24 and not any(name.startswith("our") for name in alone.columns)
    shown = alone.markdown()
    for row in rows:
        line, = [line for line in shown.splitlines() if line.startswith(
            f"| {row['model']} on {row['dataset']}: {row['optimizer']}, {row['augmentation']} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        at = ["CE", "BCE"].index(row["loss"])
        assert [float(cells[at]), float(cells[2 + at])] == [float(row["accuracy"]), float(row["uniform_accuracy"])]
    wanted = ("resnet50", "cifar100", "bce")
    config = next(c for c in room.ROOM.configs("paper") if (c.model, c.dataset, c.loss) == wanted)
    both = room.whole([planted(config, 0.7, 0.6), planted(dataclasses.replace(config, seed=1), 0.8, 0.7)])
    ours = both.frame[[name for name in both.columns if name.startswith("our")]]
    assert ours.notna().to_numpy().sum() == 2
    row = ours[ours.notna().any(axis=1)].iloc[0]
    assert row["our accuracy bce"] == pytest.approx(0.75) and row["our uniform_accuracy bce"] == pytest.approx(0.65)
    assert "nan" not in both.markdown() + shown


def test_by_setting_and_differences_against_a_second_way(quick):
    runs = quick(lambda setting, seed: (0.01 * setting + wobble(seed), 0.1))
    table = frames.differences(runs[::-1], ["test_accuracy"])
    for row in table.itertuples():
        chosen = frames.select(runs, optimizer=row.optimizer, augmentation=row.augmentation)
        by_hand = {(run.config.loss, run.config.seed): run.final["test_accuracy"] for run in chosen}
        each = [by_hand["bce", seed] - by_hand["ce", seed] for seed in range(5)]
        assert row.each.tolist() == each and row.p == pytest.approx(scipy.stats.ttest_1samp(each, 0).pvalue)
    settings = frames.by_setting(runs, ["test_accuracy", "not_measured"])
    assert len(settings) == 8 and all(e.n == 5 for e in settings["test_accuracy"])
    assert all(e.n == 0 and math.isnan(e.mean) for e in settings["not_measured"])
    assert frames.differences(runs, ["not_measured"]).empty and frames.differences([], ["test_accuracy"]).empty


def test_the_views_stand_parts_of_recorded_runs(eight):
    for part in (eight, eight[:1], eight[1:2], eight[::3], [r for r in eight if r.config.loss == "ce"]):
        plt.close(room.accuracy_differences(part))
        text = "".join(table(part).markdown() for table in room.ROOM.tables)
        text += markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text and "None" not in text
    assert room.looked_at(eight).startswith("those 5 of 10 epochs")  # of an earlier engine
