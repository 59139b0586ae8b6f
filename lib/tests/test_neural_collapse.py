"""The chapter on neural collapse: its verdicts on planted curves and on the recorded ones."""

import csv
import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats as scipy_stats

from bcebook.chapters import neural_collapse as room
from bcebook.paths import REPOSITORY
from bcebook import claims
from bcebook.report import frames, markdown, plots
from bcebook.runs.store import Run

EPOCHS = (*range(21), 30, 60, 100)  # dense, then sparse
NAMED = ("nc1", "nc2", "nc3", "rows")
DIFFERENCES = tuple(f"{name}_{what}" for name in NAMED for what in ("further", "smaller_area"))
SPEED = tuple(f"{name}_earlier" for name in NAMED)


def planted(config, value, measured=EPOCHS) -> Run:
    """A run whose measures are value(name, epoch) at the measured epochs, nan between them."""
    epochs = range(measured[-1] + 1)
    history = {"epoch": [float(epoch) for epoch in epochs]}
    history |= {name: [value(name, e) if e in measured else math.nan for e in epochs] for name in room.MEASURES}
    final = {f"train_{name}": value(name, measured[-1]) for name in room.MEASURES} | {"train_accuracy": 0.99}
    return Run(config, history, final, {}, {}, {})


def falling(speed: float, start: float = 2.0):
    """An exponential: from `start` by `speed` decades an epoch."""
    return lambda name, epoch: start * 10 ** (-speed * epoch)


@pytest.fixture(scope="module")
def plant():
    """plant(speed) gives the quick profile's runs with five seeds: speed(config) is that of a run's curves."""
    configs = room.ROOM.configs("quick", range(5))
    assert len(configs) == 20
    return lambda speed: [planted(config, falling(speed(config))) for config in configs]


def moved(run: Run, **settings) -> Run:
    """The same run under another configuration."""
    return dataclasses.replace(run, config=dataclasses.replace(run.config, **settings))


def judged(runs) -> dict[str, str]:
    return {each.name.rpartition(".")[2]: each.finding.verdict for each in claims.judge(room.ROOM.claims, runs)}


def in_settings(runs) -> list[Run]:
    """The same runs in three times as many settings: six, the fewest that a sign test can decide."""
    return [moved(run, batch_size=batch) for batch in (128, 64, 32) for run in runs]


def faster_bce(config) -> float:
    """BCE falls twice as fast; a seed does much to both losses alike, and a little to each."""
    own = 0.0005 * ((7 * config.seed + len(config.loss)) % 3)
    return (0.04 if config.loss == "bce" else 0.02) + 0.01 * config.seed + own


def test_each_verdict_follows_from_its_cause(plant):
    good = in_settings(plant(faster_bce))
    assert judged(good) == dict.fromkeys(("both_collapse", *DIFFERENCES, *SPEED), "supported")
    swapped = [moved(run, loss={"ce": "bce", "bce": "ce"}[run.config.loss]) for run in good]
    assert judged(swapped) == {"both_collapse": "supported"} | dict.fromkeys((*DIFFERENCES, *SPEED), "contradicted")
    even = plant(lambda c: 0.03 + (0.01 * (-1) ** (c.seed + (c.optimizer == "sgd")) if c.loss == "bce" else 0))
    assert {judged(even)[name] for name in (*DIFFERENCES, *SPEED)} == {"undecided"}
    assert {judged(plant(lambda c: 0.03))[name] for name in SPEED} == {"undecided"}  # no pair has a leader
    one_seed = [run for run in good if run.config.seed == 0]
    assert {judged(one_seed)[name] for name in DIFFERENCES} == {"undecided"}
    nothing = dict.fromkeys((*DIFFERENCES, *SPEED), "not run")
    assert judged([run for run in good if run.config.loss == "ce"]) == nothing | {"both_collapse": "supported"}
    assert judged([]) == nothing | {"both_collapse": "not run"}
    assert judged(plant(lambda c: -0.01))["both_collapse"] == "contradicted"


def test_one_setting_that_goes_the_other_way_contradicts(plant):
    """The old headline was printed whatever the counts."""
    runs = plant(lambda c: faster_bce(c) if c.optimizer == "sgd" else 0.1 - faster_bce(c))
    finding = room.further(runs, "nc1")
    assert finding.verdict == "contradicted" and finding.n == 2
    assert {part.adjusted for part in finding.parts if "AdamW" in part.label} == {"contradicted"}
    assert {part.adjusted for part in finding.parts if "SGD" in part.label} == {"supported"}
    assert finding.value == 0.5
    assert finding.detail == "1 of the settings is contradicted after adjustment; the mean is below zero in 1"


def test_the_pages_numbers_by_a_second_way(plant):
    """Mean, interval and p-value of the last epoch, from SciPy's paired test on the logarithms."""
    runs = plant(faster_bce)
    part = next(p for p in room.further(runs, "nc3").parts if p.label == "SGD")
    sgd = [run for run in runs if run.config.optimizer == "sgd"]
    values = {(run.config.loss, run.config.seed): math.log10(run.final["train_nc3"]) for run in sgd}
    bce, ce = ([values[loss, seed] for seed in range(5)] for loss in ("bce", "ce"))
    test = scipy_stats.ttest_rel(bce, ce)
    low, high = test.confidence_interval(0.95)
    assert [part.value, part.low, part.high] == pytest.approx([np.mean(np.subtract(bce, ce)), low, high])
    assert part.p == pytest.approx(test.pvalue)
    assert part.n == 5 and high < 0


def test_an_effect_of_chance_does_not_survive_the_family(plant):
    """One setting of six is told apart by itself, at about p = 0.03, and not among six tests."""
    shifts = np.arange(5) - 4.4  # their mean is 3.4 standard errors below zero

    def value(config):
        small = 0.001 * ((config.seed * 3) % 5 - 2)

        def at(name, epoch):
            if config.batch_size == 128 and config.optimizer == "sgd":
                return 10 ** (-0.01 * epoch + (0.01 * shifts[config.seed] if config.loss == "bce" else 0))
            return 10 ** (-0.01 * epoch + (small if config.loss == "bce" else 0))
        return at

    finding = room.further([planted(r.config, value(r.config)) for r in in_settings(plant(faster_bce))], "nc1")
    alone = finding.parts[0]
    assert 0.05 / 6 < alone.p < 0.05 and (alone.verdict, alone.adjusted) == ("supported", "undecided")
    assert finding.verdict == "undecided"


def test_the_area_is_that_of_the_dense_epochs_in_common(plant):
    config = plant(faster_bce)[0].config
    ce, bce = planted(config, falling(0.1)), planted(config, falling(0.2))
    assert room.difference_of_areas(ce, bce, "nc1") == pytest.approx(-0.1 * 20 / 2)  # the mean of -0.1 e over 0 to 20
    old = planted(config, falling(0.2), (0, 1, 2, 3, 6, 10))
    assert room.difference_of_areas(ce, old, "nc1") == pytest.approx(-0.1 * 3 / 2)
    assert room.dense([0, 1, 2, 3, 6, 7, 8]) == [0, 1, 2, 3] and room.dense([]) == []
    assert math.isnan(room.difference_of_areas(ce, planted(config, falling(0.2), (0, 5, 10)), "nc1"))
    bumpy = planted(config, lambda name, epoch: 2 + math.sin(epoch))
    by_hand = [math.log10(2 + math.sin(e)) - math.log10(2 * 10 ** (-0.1 * e)) for e in range(21)]
    area = sum(by_hand) - (by_hand[0] + by_hand[-1]) / 2
    assert room.difference_of_areas(ce, bumpy, "nc3") == pytest.approx(area / 20)


def test_a_level_is_passed_once_or_never(plant):
    assert room.first_below({0: 2.0, 1: 0.5, 2: 1.5}, 1.0) == 1
    assert room.first_below({0: 2.0, 1: 1.5}, 1.0) == math.inf  # censored: no epoch is made up
    assert math.isnan(room.first_below({0: 0.5, 1: 0.1}, 1.0)) and math.isnan(room.first_below({}, 1.0))
    config = plant(faster_bce)[0].config
    slow, fast, never = (planted(config, falling(speed)) for speed in (0.02, 0.04, 0.0))
    assert room.lead(slow, fast, "nc1") == 3 and room.lead(fast, slow, "nc1") == -3
    assert room.lead(never, slow, "nc1") == 2 and room.lead(never, never, "nc1") == 0  # a hundredth is not reached
    assert room.lead(slow, slow, "nc1") == 0


def test_collapse_is_a_level_and_not_a_fall(plant):
    assert room.both_collapse(plant(lambda c: 0.014)).verdict == "supported"  # 2 falls to 0.08
    some = room.both_collapse(plant(lambda c: 0.014 if c.loss == "bce" else 0.01))  # CE falls too, to 0.2
    assert (some.verdict, some.value, some.n) == ("contradicted", 0.5, 20)
    assert "10 of 20 runs" in some.detail and "NC1 0.2, NC2 of the means 0.2 and NC3 0.2" in some.detail
    assert "accuracy on the training set is 99.0 %" in some.detail


def test_the_setting_is_the_unit_of_a_sign_test(plant):
    """Ten pairs of two settings are two cases, and the seeds of one are averaged."""
    two = room.earlier(plant(faster_bce), "nc1")
    assert (two.n, two.of, two.verdict, two.p) == (2, "settings", "undecided", 0.5)
    six = in_settings(plant(faster_bce))
    assert (room.earlier(six, "nc1").n, room.earlier(six, "nc1").p) == (6, 2 / 2**6)
    # two seeds in which CE leads by one level each do not outweigh three in which BCE leads by three
    mixed = [run if run.config.seed < 3 or run.config.loss == "ce" else planted(run.config, falling(0.015))
             for run in plant(lambda c: 0.02 if c.loss == "ce" else 0.2)]
    found = room.earlier(in_settings(mixed), "nc1")
    assert (found.n, found.value, found.verdict) == (6, 1.0, "supported")


def test_the_end_is_judged_on_runs_that_have_levelled_off(plant):
    runs, planned = in_settings(plant(faster_bce)), [run.config for run in in_settings(plant(faster_bce))]
    for level, verdict in ((0.1, "supported"), (0.5, "still moving")):
        for run in runs:
            epochs = run.config.epochs
            run.history["train_loss"] = [1.0] * epochs + [1 - level * 0.9]
        found = {each.name: each.finding.verdict for each in claims.judge(room.ROOM.claims, runs, planned)}
        assert {found[f"neural_collapse.{name}"] for name in ("both_collapse", "nc1_further")} == {verdict}
        assert found["neural_collapse.nc1_earlier"] == "supported"


def test_tables_show_the_planted_numbers(plant):
    runs = plant(lambda c: 0.01 if c.loss == "ce" else 0.02 + 0.002 * c.seed)
    table = room.ends(runs)
    row = table.frame.set_index(["setting", "loss"]).loc["SGD", "BCE"]
    assert row["nc3"] == pytest.approx(2 * 10 ** (-0.024 * 100)) and row["seeds"] == 5 and row["accuracy"] == 0.99
    passing = room.passing(runs)
    row = passing.frame.set_index(["setting", "measure"]).loc["SGD", "NC1"]
    assert row["bce_1"] == 13 and row["ce_1"] == 60  # the first measured epoch after 12.5 (seed 2) and after 30.1
    assert math.isinf(row["ce_0.01"]) and row["bce_0.01"] == 100
    assert "| never |" in passing.markdown() and "inf" not in passing.markdown()
    never = sum(np.nanmin(r.history[name]) >= level for r in runs for name in room.MEASURES for level in room.LEVELS)
    assert f"Of {20 * 4 * 3} curves and levels to pass, {never} are never passed." in passing.notes[0] and never > 0


def test_the_posters_values_stand_beside_ours(plant):
    runs = plant(faster_bce)
    frame = room.poster(runs).frame
    with (REPOSITORY / "data" / "paper" / "poster_neural_collapse.csv").open() as file:
        published = [(row["reading"], float(row["value"])) for row in csv.DictReader(file)]
    assert list(zip(frame["reading"], frame["poster"], strict=True)) == published
    ours = frame.set_index(["measure", "setting"])["MLP on digits"]
    ends = room.ends(runs).frame.set_index(["setting", "loss"])["nc3"]
    assert ours["NC3", "CE, SGD"] == pytest.approx(ends["SGD", "CE"])
    its_own = [moved(run, model="resnet18", dataset="cifar10") for run in runs]
    assert list(room.poster(runs + its_own).columns)[4:] == ["ResNet18 on CIFAR10"]


def test_every_view_stands_a_part_of_its_runs(plant):
    runs = plant(faster_bce)
    other = [moved(run, model="resnet8", dataset="mnist") for run in runs[:10]]
    one_loss = [run for run in runs if run.config.loss == "bce"]
    lacking = [dataclasses.replace(r, history={k: v for k, v in r.history.items() if k != "nc3"}) for r in runs[:4]]
    parts = [runs + other, runs[:1], runs[1:2], runs[:2], runs[::3], one_loss, lacking]
    for part in parts:
        texts = [view(part).markdown() for view in room.ROOM.tables]
        texts.append(markdown.findings(claims.judge(room.ROOM.claims, part)))
        assert all("nan" not in text and len(text) > 50 for text in texts)
        assert all(("ResNet8 on MNIST" in text) == (part is parts[0]) for text in texts[:3])
    for part in parts:
        for draw in room.ROOM.figures:
            figure = draw(part)
            lines = [line for ax in figure.axes for line in ax.lines if len(line.get_xdata()) > 2]
            curves = {(frames.network(run), run.config.loss, run.config.optimizer) for run in part}
            assert len(lines) == len(curves) * (len(room.MEASURES) - (part is lacking))
            plt.close(figure)


def test_curves_are_medians_and_bands_hold_every_seed(plant):
    runs = plant(faster_bce)
    figure = room.whole_training(runs)
    for ax, name in zip(figure.axes, room.MEASURES, strict=True):
        curves = {(line.get_color(), line.get_linestyle()): line for line in ax.lines if len(line.get_xdata()) > 2}
        bands = ax.collections
        assert len(curves) == len(bands) == 4
        for (loss, optimizer), band in zip(dict.fromkeys((r.config.loss, r.config.optimizer) for r in runs), bands,
                                           strict=True):
            seeds = [r for r in runs if (r.config.loss, r.config.optimizer) == (loss, optimizer)]
            values = np.array([r.history[name] for r in seeds])  # (seeds, epochs), nan where not measured
            known = np.isfinite(values).all(axis=0)
            line = curves[plots.COLOUR[loss], {"sgd": "-", "adamw": "--"}[optimizer]]
            assert line.get_ydata() == pytest.approx(np.sort(values[:, known], axis=0)[len(seeds) // 2])
            edge = band.get_paths()[0].vertices[:, 1]
            assert edge.min() == pytest.approx(values[:, known].min())
            assert edge.max() == pytest.approx(values[:, known].max())
    plt.close(figure)


def test_the_enlarged_figure_ends_with_the_dense_epochs(plant):
    figure = room.first_epochs(plant(faster_bce))
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert {line.get_xdata()[-1] for line in curves} == {20.0}
    assert len(curves) == 4  # two losses and two optimizers, whatever the number of seeds
    levels = {line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 2}
    assert levels == set(room.LEVELS)
    plt.close(figure)


def test_the_recorded_curves_say_what_their_files_say(eight):
    verdicts = judged(eight)
    assert verdicts.pop("both_collapse") == "contradicted" and set(verdicts.values()) == {"undecided"}  # one seed
    final = {(r.config.dataset, r.config.optimizer, r.config.loss): r.history for r in eight}
    for part in room.further(eight, "nc1").parts:
        dataset = "mnist" if "MNIST" in part.label else "cifar10"
        optimizer = "sgd" if "SGD" in part.label else "adamw"
        ratio = final[dataset, optimizer, "bce"]["nc1"][-1] / final[dataset, optimizer, "ce"]["nc1"][-1]
        assert part.value == pytest.approx(math.log10(ratio), abs=5e-3)  # history and final figures
        assert part.value < 0 and part.n == 1
