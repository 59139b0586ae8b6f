"""The chapter on long-tailed classes: what it trains, what its tables say, and each verdict from its cause."""

import dataclasses
import math

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from bcebook import paper
from bcebook.chapters import catalog, long_tailed as room, recipes
from bcebook import claims
from bcebook.report import frames, imbalances, markdown, tails
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS
from bcebook.runs.store import Run
from bcebook.science import stats
from bcebook.training import datasets

matplotlib.use("Agg")
NOISE = (-0.004, 0.001, 0.003, -0.001, 0.002)  # of the seeds, on BCE's figures alone


def planted(gain=0.0, uniform=0.0, many=0.0, few=0.0, noise=1.0, profile="quick", later=0.0) -> list[Run]:
    """The chapter's runs (five seeds in the quick profile) with BCE - CE as given, one number or a dict by imbalance (one
    that it lacks: nan), plus NOISE so many times; later: what BCE gains by biases that start elsewhere."""
    made = []
    for config in room.ROOM.configs(profile, range(5) if profile == "quick" else None):
        def value(base, gap, config=config):
            gap = gap.get(config.imbalance_factor, math.nan) if isinstance(gap, dict) else gap
            start = later + noise * NOISE[config.seed] if config.bias_init_mean else 0.0
            return base + (config.loss == "bce") * (gap + noise * NOISE[config.seed]) + start
        final = {"test_accuracy": value(0.6, gain), "test_uniform_accuracy": value(0.5, uniform), "train_accuracy": 1.0,
                 "test_accuracy_many": value(0.8, many), "test_accuracy_medium": value(0.6, 0.0),
                 "test_accuracy_few": value(0.3, few)}
        made.append(Run(config, {}, final, {}, {"test": {"positive": {"count": 355}}}, {}))
    return made


def verdicts(runs) -> dict[str, str]:
    return {each.name.partition(".")[2]: each.finding.verdict for each in claims.judge(room.ROOM.claims, runs)
            if not each.name.startswith("long_tailed.table")}


# ---- what is trained -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("profile", recipes.PROFILES)
def test_the_runs_are_pairs_at_the_papers_imbalances(profile):
    configs = [c for c in catalog.configs("long_tailed", profile) if not c.bias_init_mean]
    assert {c.imbalance_factor for c in configs} == set(paper.long_tailed()["imbalance_factor"]) == {10, 50, 100}
    pairs = {loss: {RunConfig(**(c.to_dict() | {"loss": "ce"})).key for c in configs if c.loss == loss}
             for loss in recipes.LOSSES}
    assert pairs["ce"] == pairs["bce"] and 2 * len(pairs["ce"]) == len(configs) >= 18
    for config in configs:
        accuracy = recipes.run(profile, (config.model, config.dataset), config.loss, "sgd", config.seed,
                               augmentation="da1", **recipes.GLOBAL).to_dict()
        own = {"imbalance_factor", "epochs", "batch_size"}
        assert {name for name, value in config.to_dict().items() if value != accuracy[name]} <= own
        assert config.epochs == {"quick": 60, "laptop": 16, "paper": 100}[profile]


def test_biases_that_start_elsewhere_start_at_the_share_of_a_class():
    for profile, count in (("quick", 0), ("laptop", 3), ("paper", 0)):
        configs = catalog.configs("long_tailed", profile)
        later = [c for c in configs if c.bias_init_mean]
        assert len(later) == count
        for config in later:
            assert dataclasses.replace(config, bias_init_mean=0.0) in configs  # nothing else differs
            assert config.loss == "bce" and config.imbalance_factor == 100
            assert 1 / (1 + math.exp(config.bias_init_mean)) == pytest.approx(1 / 100, rel=0.05)


@pytest.mark.parametrize("profile", recipes.PROFILES)
def test_no_class_is_empty_and_no_last_batch_is_small(profile):
    """Batch statistics of a few images spoil a network: the last batch has at least a quarter of the others' images."""
    for config in catalog.configs("long_tailed", profile):
        sizes = room.class_sizes(Run(config, {}, {}, {}, {}, {}))
        assert len(sizes) == DATASETS[config.dataset].num_classes and sizes.min() >= 1
        assert sizes.max() / sizes.min() >= 0.95 * config.imbalance_factor
        rest = sizes.sum() % config.batch_size
        assert rest == 0 or rest >= config.batch_size / 4
    assert datasets.load("digits").subset(None, 50.0).y_train.size % recipes.BATCH_SIZE == 3  # why quick has its own


def test_class_sizes_are_those_of_the_images_that_a_run_sees():
    for run in planted()[::10]:
        seen = np.bincount(datasets.load("digits").subset(None, run.config.imbalance_factor).y_train)
        assert room.class_sizes(run).tolist() == seen.tolist()
    run = next(run for run in planted(profile="paper") if run.config.imbalance_factor == 100)
    assert room.class_sizes(run).tolist() == [math.floor(500 * 100 ** (-k / 99) + 1e-9) for k in range(100)]
    assert room.class_sizes(run).tolist() == tails.long_tailed_sizes(100).tolist()


# ---- the paper's table -----------------------------------------------------------------------------------------------

def test_the_papers_own_table_and_what_would_contradict_it(monkeypatch):
    found = room.published()
    raw = {(r.imbalance_factor, r.loss): r.accuracy for r in paper.long_tailed().itertuples()}
    assert all(found["difference"][f] == pytest.approx(raw[f, "bce"] - raw[f, "ce"]) for f in (10, 50, 100))
    assert (room.table_higher().verdict, room.table_grows().verdict) == ("supported", "supported")
    assert room.table_higher().n == 3 and room.table_grows().n == 2

    def altered(factor, by):
        table = original()
        table.loc[(table["imbalance_factor"] == factor) & (table["loss"] == "bce"), "accuracy"] += by
        return lambda: table

    original = paper.long_tailed
    monkeypatch.setattr(paper, "long_tailed", altered(10, 0.004))  # still above, but no longer growing
    assert (room.table_higher().verdict, room.table_grows().verdict) == ("supported", "contradicted")
    monkeypatch.setattr(paper, "long_tailed", original)
    monkeypatch.setattr(paper, "long_tailed", altered(10, -0.0063))  # level, but for rounding
    assert (room.table_higher().verdict, room.table_grows().verdict) == ("contradicted", "supported")


# ---- verdicts --------------------------------------------------------------------------------------------------------

def test_every_claim_can_be_supported_contradicted_and_undecided():
    rising = {10: 0.01, 50: 0.02, 100: 0.04}
    falling = {factor: -gap for factor, gap in rising.items()}
    names = ["higher", "grows", "higher_uniform", "few_higher", "few_more", "start"]
    assert verdicts(planted(rising, 0.1, 0.0, rising, 1.0, "laptop", 0.05)) == dict.fromkeys(names, "supported")
    assert verdicts(planted(falling, -0.1, 0.0, falling, 1.0, "laptop", -0.05)) == dict.fromkeys(names, "contradicted")
    loose = verdicts(planted(0.01, 0.01, 0.01, 0.01, noise=50))  # quick has no runs that start elsewhere
    assert loose == dict.fromkeys(names, "undecided") | {"start": "not run"}
    assert verdicts(planted(profile="laptop", later=0.01, noise=50))["start"] == "undecided"
    assert verdicts([]) == dict.fromkeys(names, "not run")


def test_a_gain_that_is_the_same_everywhere_neither_grows_nor_is_in_the_few():
    same = verdicts(planted(0.02, many=0.02, few=0.02))
    assert same["higher"] == same["few_higher"] == "supported" and same["grows"] == "undecided"
    assert verdicts(planted(0.02, many=0.05, few=0.02))["few_more"] == "contradicted"


def test_one_imbalance_against_the_claim_contradicts_it_and_one_that_is_open_leaves_it_open():
    assert verdicts(planted({10: 0.05, 50: 0.05, 100: -0.05}))["higher"] == "contradicted"
    assert verdicts(planted({10: 0.05, 50: 0.05, 100: 0.0}))["higher"] == "undecided"


def test_the_p_values_are_adjusted_over_the_imbalances():
    gap = 0.0018  # p about 0.03 by itself at each imbalance
    parts = room.higher(planted(gap, noise=0.5)).parts
    raw = [part.p for part in parts]
    each = [gap + 0.5 * noise for noise in NOISE]
    assert raw == pytest.approx([stats.student_p(each)] * 3, rel=1e-6) and 0.05 / 3 < raw[0] < 0.05
    assert {(part.verdict, part.adjusted) for part in parts} == {("supported", "undecided")}


def test_gains_on_the_few_are_told_from_gains_on_the_many():
    everywhere = room.few_higher(planted(many=0.03, few=0.03))
    assert everywhere.verdict == everywhere.control.verdict == "supported"
    only = room.few_higher(planted(few=0.03))
    assert only.verdict == "supported" and only.control.verdict == "undecided"
    rows = [imbalances.seeds_gaps(planted(few={100: 0.03}), factor, "test_accuracy_few") for factor in (10, 100)]
    assert rows[0] == {} and rows[1] == pytest.approx({seed: 0.03 + NOISE[seed] for seed in range(5)})
    absent = room.few_more(planted(few={50: 0.05, 100: 0.05}))  # as CIFAR100-LT, with no few-shot class at 10
    assert [part.label for part in absent.parts] == ["imbalance 50", "imbalance 100"]


def test_a_start_changes_nothing_but_what_is_told_of_it():
    """Whatever the runs that start elsewhere say, the losses are compared by the others."""
    with_it, without = planted(0.02, 0.1, profile="laptop", later=0.3), planted(0.02, 0.1, profile="laptop")
    for view in (room.accuracies, room.groups):
        assert view(with_it).markdown() == view(without).markdown()
    each = [0.3 + 2 * NOISE[seed] - NOISE[seed] for seed in range(3)]
    assert imbalances.start_gaps(with_it, "test_accuracy") == pytest.approx(each)
    row = room.starts(with_it).frame.set_index("figure").loc["test_accuracy"]
    assert (row["factor"], row["seeds"]) == (100, 3) and row["gained"].mean == pytest.approx(np.mean(each))
    assert row["later"].mean == pytest.approx(row["bce"].mean + np.mean(each))
    alone = [run for run in with_it if run.config.bias_init_mean]
    assert "nan" not in room.starts(alone).markdown() and room.start(alone).verdict == "not run"
    assert len(room.starts(planted()).frame) == 0


def test_what_is_still_learning_decides_nothing_about_the_end():
    """Short runs whose losses still fall: "contradicted" by the rule, and "still moving" as a verdict."""
    runs = planted(-0.05, profile="laptop", later=0.1)
    for run in runs:
        run.history["train_loss"] = [2.0 - 0.1 * epoch for epoch in range(run.config.epochs + 1)]
    found = {each.name.partition(".")[2]: each.finding for each in
             claims.judge(room.ROOM.claims, runs, room.ROOM.configs("laptop"))}
    assert verdicts(runs)["higher"] == "contradicted" and found["higher"].verdict == "still moving"
    assert (found["higher"].planned, found["start"].planned, found["start"].verdict) == (18, 6, "supported")
    assert "train_accuracy" in set(room.accuracies(runs).frame["figure"])  # stands beside it


def test_the_growth_is_paired_by_seed():
    runs = [run for run in planted({10: 0.01, 50: 0.5, 100: 0.04}) if run.config.seed != 2 or
            run.config.imbalance_factor != 10]
    for index, run in enumerate(runs):
        run.final["test_accuracy"] += 0.001 * math.cos(index)
    value = {(r.config.imbalance_factor, r.config.loss, r.config.seed): r.final["test_accuracy"] for r in runs}
    gap = lambda factor, seed: value[factor, "bce", seed] - value[factor, "ce", seed]  # noqa: E731
    found = room.grows(runs)
    assert found.n == 4 and found.verdict == "supported" and "at 100 less that at 10" in found.detail
    assert found.value == pytest.approx(np.mean([gap(100, seed) - gap(10, seed) for seed in (0, 1, 3, 4)]))
    assert room.grows(frames.select(runs, imbalance_factor=10.0)).verdict == "not run"


# ---- views -----------------------------------------------------------------------------------------------------------

def test_views_take_runs_in_pieces():
    runs = planted(0.02, 0.1, 0.0, {50: 0.05, 100: 0.05})
    laptop = planted(0.02, profile="laptop", later=0.1)
    for part in (runs[:1], runs[::7], frames.select(runs, loss="ce"), [], laptop):
        for view in room.ROOM.tables:
            assert "nan" not in view(part).markdown()
        for draw in room.ROOM.figures:
            plt.close(draw(part))
        assert "nan" not in markdown.findings(claims.judge(room.ROOM.claims, part))


def test_runs_that_did_not_measure_groups_are_left_out_of_them():
    runs = planted(0.02)
    for run in runs:
        for group in room.GROUPS:
            del run.final[f"test_accuracy_{group}"]
    assert verdicts(runs)["few_higher"] == verdicts(runs)["few_more"] == "not run"
    assert verdicts(runs)["higher"] == "supported" and "| – | – | 0 |" in room.groups(runs).markdown()
    plt.close(room.by_group(runs))


def test_figure_and_table_show_the_pairs():
    runs = planted({10: 0.01, 50: 0.02, 100: 0.04}, 0.1)
    figure = room.by_imbalance(runs)
    offsets = [np.asarray(c.get_offsets()) for c in figure.axes[0].collections if len(c.get_offsets())]
    diamonds = sorted(100 * room.published()["difference"])
    assert any(len(xy) == 3 and sorted(xy[:, 0]) == pytest.approx(diamonds) for xy in offsets)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "imbalance 10", "imbalance 50", "imbalance 100"]
    plt.close(figure)
    frame = room.accuracies(runs).frame.set_index(["figure", "factor"])
    shown = [frame["difference"]["test_accuracy", factor].mean for factor in (10, 50, 100)]
    assert shown == pytest.approx([0.01 + np.mean(NOISE), 0.02 + np.mean(NOISE), 0.04 + np.mean(NOISE)])
    assert frame["paper_bce"]["test_accuracy", 100] == 0.5288 and math.isnan(frame["paper_ce"]["train_accuracy", 10])
    text = room.accuracies(runs).markdown()
    assert "Digits: another task" in text and "0.28 points on digits" in text
    assert "another task" not in room.accuracies(planted(0.02, profile="paper")).markdown()


def test_groups_and_sizes_count_the_classes():
    frame = room.groups(planted(few={50: 0.1, 100: 0.1})).frame.set_index(["factor", "group"])["classes"]
    for factor in (10, 50, 100):
        each = [int(140 * factor ** (-k / 9) + 1e-9) for k in range(10)]
        counted = [sum(n > 100 for n in each), sum(20 <= n <= 100 for n in each), sum(n < 20 for n in each)]
        assert [frame[factor, group] for group in room.GROUPS] == counted
    cifar = room.groups(planted(profile="paper")).frame
    assert (10, "few") not in set(zip(cifar["factor"], cifar["group"], strict=True)) and len(cifar) == 8
    table = room.sizes(planted())
    rows = table.frame.set_index(["dataset", "factor"])
    assert len(rows) == 6 and rows["size"]["cifar100", 100] == pytest.approx(10847 * 128 * 25e-8)
    assert rows["size"]["digits", 100] == pytest.approx(343 * 100 * 25e-8)
    assert len(room.sizes(planted(profile="paper")).frame) == 3  # the paper's settings, once
    ratio = min(rows["smallest"] / rows["size"])
    assert f"is {ratio:.1f}." in table.notes[0]


def test_a_class_at_the_collapse_size_would_be_counted(monkeypatch):
    monkeypatch.setattr(recipes, "PAPER_DECAY", 0.005)  # a hundred times the size: 34.7 images at imbalance 100
    frame = room.sizes([]).frame.set_index("factor")
    below = (tails.long_tailed_sizes(100) <= 10847 * 128 * 25e-6).mean()
    assert frame["below"][100] == pytest.approx(below) and 0.3 < below < 0.5 and frame["below"][10] < below
