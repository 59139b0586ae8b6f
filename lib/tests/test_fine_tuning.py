"""The chapter on fine-tuning: verdicts on planted runs, the paper's table counted a second way, a profile without runs."""

import csv
import dataclasses
import math

import matplotlib.pyplot as plt
import pytest
import scipy.stats
import torch

from bcebook.book import pages, scoreboard
from bcebook.book.notebook import Chapter
from bcebook.chapters import catalog, recipes
from bcebook.chapters import fine_tuning as room
from bcebook.paths import REPOSITORY
from bcebook import claims
from bcebook.report import markdown
from bcebook.runs.specs import DATASETS, NETWORKS
from bcebook.runs.store import Run
from bcebook.science.summaries import score_summary

TRAINED = ("higher_accuracy", "higher_uniform", "frozen_uniform", "more_than_a_classifier")


def planted(config, accuracy: float, uniform: float) -> Run:
    scores = {kind: score_summary(torch.full((config.train_size or 50,), 1.0)).to_dict()
              for kind in ("positive", "negative", "bias")}
    final = {f"{split}_{name}": value for split in ("train", "test")
             for name, value in (("accuracy", accuracy), ("uniform_accuracy", uniform))}
    return Run(config, {}, final, {}, {"train": scores, "test": scores}, {"date": "2026-01-01"})


def wobble(seed: int) -> float:
    return 0.002 * math.cos(2.5 * seed)


def runs(fine=(0.01, 0.2), frozen=(0.0, 0.1), seeds=(0, 1, 2)) -> list[Run]:
    """BCE above CE by these (accuracy, uniform accuracy); the seed's own part is common to both losses."""
    found = []
    for config in catalog.configs("fine_tuning", "laptop", seeds):
        base = 0.5 + 0.03 * math.sin(config.seed)
        up = (frozen if config.frozen else fine) if config.loss == "bce" else (0.0, 0.0)
        noise = wobble(config.seed + 10 * config.frozen) if config.loss == "bce" else 0.0
        found.append(planted(config, base + up[0] + noise, base - 0.2 + up[1] + noise))
    return found


def verdicts(of) -> dict:
    return {each.name.partition(".")[2]: each.finding.verdict for each in claims.judge(room.ROOM.claims, of)}


def test_each_verdict_follows_from_its_cause():
    better = verdicts(runs())
    assert {name: better[name] for name in TRAINED} == dict.fromkeys(TRAINED, "supported")
    assert verdicts(runs(fine=(-0.01, 0.2)))["higher_accuracy"] == "contradicted"
    assert verdicts(runs(fine=(0.0, 0.2)))["higher_accuracy"] == "undecided"
    lower = verdicts(runs(fine=(0.01, -0.2)))
    assert (lower["higher_uniform"], lower["more_than_a_classifier"]) == ("contradicted", "contradicted")
    assert verdicts(runs(frozen=(0.0, -0.1)))["frozen_uniform"] == "contradicted"
    assert verdicts(runs(fine=(0.01, 0.1)))["more_than_a_classifier"] == "undecided"  # the classifier explains it all
    one_seed = verdicts(runs(seeds=(0,)))
    assert {one_seed[name] for name in TRAINED} == {"undecided"}
    every = runs()
    for part in ([], [r for r in every if r.config.loss == "ce"], every[:1]):
        assert {verdicts(part)[name] for name in TRAINED} == {"not run"}
    alone = [r for r in every if not r.config.frozen]
    assert verdicts(alone) == better | {"frozen_uniform": "not run", "more_than_a_classifier": "not run"}


def test_a_lead_is_compared_seed_by_seed():
    """Against Student's test of the differences of differences, worked out from the planted numbers."""
    finding = room.more_than_a_classifier(runs())
    each = [0.1 + wobble(seed) - wobble(seed + 10) for seed in range(3)]
    assert finding.value == pytest.approx(sum(each) / 3) and finding.n == 3
    assert finding.p == pytest.approx(scipy.stats.ttest_1samp(each, 0).pvalue)
    some = [r for r in runs() if not (r.config.frozen and r.config.loss == "ce" and r.config.seed == 1)]
    assert room.more_than_a_classifier(some).n == 2


def test_the_papers_table_is_counted_and_its_errors_are_those_of_a_binomial():
    with open(REPOSITORY / "data" / "paper" / "imagenet_accuracy.csv", newline="") as file:
        rows = {(row["model"], row["loss"]): row for row in csv.DictReader(file)}
    table = room.theirs().set_index("network")
    assert len(table) == len(rows) / 2 == 3
    for model in {model for model, _ in rows}:
        mine = table.loc[f"{model} on ImageNet-1k"]
        for name in room.MEASURES:
            ce, bce = (float(rows[model, loss][name]) for loss in ("CE", "BCE"))
            assert round(100 * mine[name], 2) == round(bce - ce, 2)
            spread = sum(scipy.stats.binom(50_000, value / 100).var() for value in (ce, bce)) ** 0.5
            assert 50_000 * mine[f"error {name}"] == pytest.approx(spread)
    wins = {name: int((table[name] > 0).sum()) for name in room.MEASURES}
    assert wins == {"accuracy": 3, "uniform_accuracy": 3}
    for name in ("table_accuracy", "table_uniform"):
        finding = {each.name.partition(".")[2]: each.finding for each in claims.judge(room.ROOM.claims)}[name]
        assert finding.verdict == "supported" and finding.p == pytest.approx(scipy.stats.binomtest(3, 3).pvalue)
    within = sum(abs(table["accuracy"]) / table["error accuracy"] < 1.96)
    assert f"in {within} of 3 rows" in room.published().markdown() and within == 2


def test_a_row_of_the_papers_table_can_contradict_it(monkeypatch):
    worse = room.theirs().assign(accuracy=[0.01, -0.001, 0.02])
    monkeypatch.setattr(room, "theirs", lambda: worse)
    assert room.table_accuracy().verdict == "contradicted" and room.table_uniform().verdict == "supported"


def test_the_views_stand_every_part_of_the_runs_and_none():
    every = runs()
    for part in (every, every[:1], every[1:2], every[::3], [r for r in every if r.config.frozen], []):
        plt.close(room.differences(part))
        text = "".join(table(part).markdown() for table in room.ROOM.tables)
        text += markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text and "None" not in text
    frame = room.gaps(every).frame
    assert [row["difference"].mean for row in frame.to_dict("records")] == pytest.approx([0.01, 0.2, 0.0, 0.1], abs=2e-3)
    assert list(room.results(every).frame["loss"]) == ["ce", "bce"] * 2
    figure = room.differences(every)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels[-2:] == ["EfficientNet-Lite0 on CIFAR100", "EfficientNet-Lite0 on CIFAR100, frozen"] and len(labels) == 5
    plt.close(figure)


def test_the_papers_networks_stand_in_the_row_of_their_published_difference():
    made = [planted(config, 0.7 + 0.01 * (config.loss == "bce"), 0.5) for config in catalog.configs("fine_tuning", "paper")]
    assert len(made) == 18 and not any(run.config.frozen for run in made)
    figure = room.differences(made)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == list(room.theirs()["network"])
    plt.close(figure)
    assert verdicts(made)["higher_accuracy"] == "supported" and verdicts(made)["frozen_uniform"] == "not run"
    assert [part.n for part in room.higher_accuracy(made).parts] == [3] * 3


def test_the_runs_differ_in_nothing_but_what_is_compared():
    found = catalog.configs("fine_tuning", "laptop")
    assert len(found) == 12 and {c.seed for c in found} == {0, 1, 2} and found[0].seed == found[3].seed == 0
    for config in found:
        assert NETWORKS[config.model].mean and config.train_size < DATASETS[config.dataset].train_count
        other, = [c for c in found if c.loss != config.loss and (c.seed, c.frozen) == (config.seed, config.frozen)]
        assert dataclasses.replace(other, loss=config.loss) == config
        twin, = [c for c in found if c.frozen != config.frozen and (c.seed, c.loss) == (config.seed, config.loss)]
        assert dataclasses.replace(twin, frozen=config.frozen, learning_rate=config.learning_rate) == config


def test_a_profile_without_runs_has_a_page_all_the_same(tmp_path, monkeypatch):
    """The published table with its verdicts; the recorded runs of another profile below it; and no number of runs."""
    shown = []
    monkeypatch.setattr("bcebook.book.notebook.display", shown.append)
    chapter = Chapter(room.ROOM, "quick", "cpu", str(tmp_path))
    assert chapter.runs() == [] and not (tmp_path / "runs").exists()
    payload = chapter.findings([]).payload
    assert (payload["runs"], payload["of"], payload["seeds"]) == (0, 0, [])
    told = chapter.provenance([]).data
    assert "quick: the 8x8 digits" in told and "none in this profile" in told
    chapter.other_profiles()
    assert "none of its 12 runs are recorded here yet" in shown[0].data
    shown.clear()
    Chapter(room.ROOM, "laptop", "cpu", str(tmp_path)).other_profiles()
    assert "this chapter trains nothing in it" in shown[0].data
    assert "| Fine-tuning of pretrained networks | Tables | table of fine-tuning on ImageNet-1k | no runs |" in pages.readme()
    assert "0 of 0" not in scoreboard.items({}) and recipes.THREE_SEEDS == room.ROOM.seeds["laptop"]
