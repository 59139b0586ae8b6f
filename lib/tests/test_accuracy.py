"""The chapter on accuracies: verdicts on planted runs, the paper's table counted a second way, the recorded runs."""

import csv
import dataclasses
import math
import os
import subprocess
import sys

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from bcebook import claims, frame
from bcebook.book import findings
from bcebook.chapters import recipes
from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY
from bcebook.report import markdown, tables
from bcebook.runs.store import Run
from bcebook.science.summaries import score_summary

IMAGES = 355  # in the test set of the digits: one is 0.28 points
NAMES = ("higher_accuracy", "higher_uniform", "table_accuracy", "table_uniform")
chapter = rooms()["accuracy"]
defined = chapter.definitions


def planted(config, accuracy: float, uniform: float) -> Run:
    """A run with these test accuracies."""
    epochs = list(range(config.epochs + 1))
    scores = {kind: score_summary(torch.full((IMAGES,), 1.0)).to_dict() for kind in ("positive", "negative", "bias")}
    final = {"test_accuracy": accuracy, "test_uniform_accuracy": uniform}
    history = {"epoch": [float(e) for e in epochs], "test_accuracy": [accuracy] * len(epochs),
               "bias_mean": [0.0] * len(epochs), "train_loss": [1.0] * len(epochs)}
    return Run(config, history, final, {name: value + 0.001 for name, value in final.items()},
               {"train": scores, "test": scores}, {"date": "2026-01-01"})


@pytest.fixture
def quick():
    """quick(gain) plants the quick profile with five seeds: BCE's accuracy and uniform accuracy are above CE's by
    gain(setting, seed), setting counted from 0; CE's own go up and down with the seed."""
    settings = [(a, o) for a in recipes.PROFILES["quick"].augmentations for o in recipes.OPTIMIZERS]

    def make(gain) -> list[Run]:
        runs = []
        for config in (each for seed in range(5) for each in recipes.classification("quick", seed)):
            base = 0.9 + 0.01 * math.sin(config.seed)  # the seed's own part, which pairing takes out
            up = gain(settings.index((config.augmentation, config.optimizer)), config.seed)
            a, u = up if config.loss == "bce" else (0.0, 0.0)
            runs.append(planted(config, base + a, base - 0.1 + u))
        return runs

    return make


def judged(runs: list[Run], planned=None) -> dict:
    found = claims.judge(chapter.claims, frame.of(runs) if runs else frame.of(()), planned)
    return {each.name.removeprefix("accuracy."): each.finding for each in found}


def verdicts(runs) -> list[str]:
    return [judged(runs)[name].verdict for name in NAMES[:2]]


def wobble(seed: int) -> float:
    return 0.002 * math.cos(2.5 * seed)


def test_each_verdict_follows_from_its_cause(quick):
    better = quick(lambda setting, seed: (0.01 + wobble(seed), 0.05 + wobble(seed)))
    assert verdicts(better) == ["supported", "supported"]
    worse = quick(lambda setting, seed: (-0.01 + wobble(seed), -0.05 + wobble(seed)))
    assert verdicts(worse) == ["contradicted", "contradicted"]
    # Three settings of four: the fourth is lower by more than chance, or level.
    most = quick(lambda setting, seed: ((0.01 if setting else -0.01) + wobble(seed),) * 2)
    assert verdicts(most) == ["contradicted", "contradicted"]  # no part may contradict
    level = quick(lambda setting, seed: ((0.01 if setting else 0.0) + wobble(seed),) * 2)
    assert verdicts(level) == ["supported", "undecided"]
    same = quick(lambda setting, seed: (wobble(seed), wobble(seed)))
    assert verdicts(same) == ["equivalent", "undecided"]  # only accuracy has a margin
    noise = quick(lambda setting, seed: (0.02 * math.cos(2.5 * seed),) * 2)
    assert verdicts(noise) == ["undecided"] * 2
    one_seed = [run for run in better if run.config.seed == 0]
    assert verdicts(one_seed) == ["undecided"] * 2
    for nothing in ([], [run for run in better if run.config.loss == "ce"], better[:1]):
        assert verdicts(nothing) == ["not run"] * 2


def test_a_verdict_reaches_as_far_as_the_runs(quick):
    """The same runs, judged beside what is planned: two seeds are consistent at most, and a few runs are no evidence."""
    better = quick(lambda setting, seed: (0.01 + wobble(seed) / 50, 0.05 + wobble(seed) / 50))
    planned = [run.config for run in better]
    assert [judged(better, planned)[name].verdict for name in NAMES[:2]] == ["supported"] * 2
    two = [run for run in better if run.config.seed < 2]
    assert [judged(two, [run.config for run in two])[name].verdict for name in NAMES[:2]] == ["consistent"] * 2
    few = judged(two, planned)["higher_uniform"]
    assert few.verdict == "not run" and (len(few.runs), few.planned) == (16, 40) and math.isnan(few.value)
    assert "*Not run*: fewer than half" in markdown.findings(claims.judge(chapter.claims, frame.of(two), planned))


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
    figure = defined["accuracy_differences"](frame.of(runs))
    bars = [np.asarray(segment)[:, 0] for ax in figure.axes for c in ax.collections if hasattr(c, "get_segments")
            for segment in c.get_segments() if len(segment) == 2]
    assert len(bars) == 8 and all(bar == pytest.approx([100 * low, 100 * high]) for bar in bars)
    plt.close(figure)


def test_a_difference_is_told_in_points_and_in_images(quick):
    runs = [r for r in quick(lambda setting, seed: (3 / IMAGES, 7 / IMAGES)) if r.config.seed == 0]
    text = defined["gaps"](frame.of(runs)).data
    assert text.count(">+3.0<") == 4 and text.count(">+7.0<") == 4 and text.count(">+0.85 points<") == 4
    assert text.count(">+0.4<") >= 1 and text.count(">+6.7<") == 1  # ResNet18, CIFAR10, SGD, DA1, off the table
    assert "The paper's column: ResNet18 on CIFAR10." in text
    assert "+0.8 points with SGD" in defined["result"](frame.of(runs)).data


def test_a_missing_published_number_never_decides(quick):
    """BCE higher is the claim, where the paper has a number as where it has none."""
    runs = quick(lambda setting, seed: (0.01 + wobble(seed), 0.05 + wobble(seed)))
    plain = [dataclasses.replace(run, config=dataclasses.replace(run.config, augmentation="none"))
             for run in runs if run.config.augmentation == "da1"]
    assert verdicts(plain) == ["supported"] * 2
    text = defined["gaps"](frame.of(plain)).data
    assert "none of these settings" in text and text.count(">–<") == 4 and "nan" not in text


def test_the_papers_own_tables_are_counted_and_shown():
    """Counted a second time from the file's own lines."""
    with open(REPOSITORY / "data" / "paper" / "cifar_accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = defined["published"]().data
    assert len(rows) == 48 and shown.count("<tr>") == 25 and "nan" not in shown
    for name, column in (("table_accuracy", "accuracy"), ("table_uniform", "uniform_accuracy")):
        gaps = []
        for row in rows:
            assert f">{float(row[column]):.1f}<" in shown
            other, = [r for r in rows if r["loss"] != row["loss"] and all(
                r[key] == row[key] for key in ("dataset", "model", "optimizer", "augmentation"))]
            if row["loss"] == "BCE":
                gaps.append(round(10 * float(row[column])) - round(10 * float(other[column])))
        wins, losses = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
        finding = judged([])[name]
        assert finding.p == pytest.approx(scipy.stats.binomtest(wins, wins + losses).pvalue)
        assert f"above CE in {wins}, below in {losses} and equal in {24 - wins - losses}" in finding.detail
        assert finding.verdict == "supported" and "independent" in finding.detail


def test_the_change_of_recipe_is_welchs(quick):
    """Seeds 0 to 4 by the authors' recipe, BCE +1 point; the same runs as if by the former, +0."""
    ours = quick(lambda setting, seed: (0.01 + wobble(seed), 0.0))
    settings = {"bias_init_mean": 0.0, "label_smoothing": 0.0, "weight_decay": recipes.PAPER_DECAY}
    theirs = [dataclasses.replace(run, config=dataclasses.replace(run.config, **settings))
              for run in quick(lambda setting, seed: (wobble(seed + 1), 0.0))]
    runs = frame.of([run for run in ours + theirs if (run.config.optimizer, run.config.augmentation) == ("adamw", "da1")])
    row, _ = defined["changes"](runs).to_dict("records")
    a, b = ([0.01 + wobble(s) for s in range(5)], [wobble(s + 1) for s in range(5)])
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    assert row["change"].mean == pytest.approx(np.mean(a) - np.mean(b)) and row["p"] == pytest.approx(expected.pvalue)
    assert tables.difference("test_accuracy", row["change"]) in defined["recipe_table"](runs).data


def test_pairs_and_summaries_against_a_second_way(quick):
    runs = quick(lambda setting, seed: (0.01 * setting + wobble(seed), 0.1))
    table = frame.compare(frame.of(runs[::-1]), "test_accuracy")
    for row in table.itertuples():
        by_hand = {(run.config.loss, run.config.seed): run.final["test_accuracy"] for run in runs
                   if (run.config.optimizer, run.config.augmentation) == (row.optimizer, row.augmentation)}
        each = [by_hand["bce", seed] - by_hand["ce", seed] for seed in range(5)]
        assert row.each.tolist() == each and row.p == pytest.approx(scipy.stats.ttest_1samp(each, 0).pvalue)
        assert len(row.keys) == 10
    settings = frame.summarise(frame.of(runs), ["test_accuracy", "not_measured"])
    assert len(settings) == 8 and all(e.n == 5 for e in settings["test_accuracy"])
    assert all(e.n == 0 and math.isnan(e.mean) for e in settings["not_measured"])
    assert frame.compare(frame.of(()), "test_accuracy").empty
    with pytest.raises(KeyError, match="no column 'test_acuracy'; did you mean test_accuracy"):
        frame.compare(frame.of(runs), "test_acuracy")


def test_the_views_stand_parts_of_recorded_runs(eight):
    for part in (eight, eight[:1], eight[1:2], eight[::3], [r for r in eight if r.config.loss == "ce"]):
        runs = frame.of(part)
        plt.close(defined["accuracy_differences"](runs))
        text = "".join(defined[name](runs).data for name in ("gaps", "final_and_best", "recipe_table", "starts", "result"))
        text += markdown.findings(claims.judge(chapter.claims, runs))
        assert "nan" not in text and "None" not in text


def test_papermill_runs_the_notebook_from_any_folder_with_another_measure(tmp_path):
    """A reader changes a measure in the definitions: figure and tables follow, and no verdict is lost."""
    notebook = jupytext.read(chapter.path)
    for cell in notebook.cells:
        cell.source = cell.source.replace('"test_uniform_accuracy": "uniform accuracy"}', '"train_nc1": "NC1"}')
    jupytext.write(notebook, tmp_path / "mine.ipynb")
    command = [sys.executable, "-m", "papermill", "mine.ipynb", "out.ipynb", "-k", "python3", "-p", "profile", "recorded"]
    done = subprocess.run([*command, "--no-progress-bar"], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(REPOSITORY / "lib")})
    assert done.returncode == 0, done.stderr[-3000:]
    found = findings.extract(tmp_path / "out.ipynb")["laptop"]["claims"]
    assert [each["name"] for each in found] == [claim.name for claim in chapter.claims]
    text = (tmp_path / "out.ipynb").read_text()
    assert ">NC1<" in text and "NC1, former recipe, 3 seeds: \u22120." in text.replace("−", "\u2212")  # no points
