"""How the bias travels: times recovered from planted figures, paths of planted runs, every verdict from its cause."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from bcebook.chapters import bias_travels as room
from bcebook.chapters import catalog
from bcebook.report import claims, flows, frames, markdown, predictions
from bcebook.runs.config import batch_count
from bcebook.runs.store import Run
from bcebook.science import theory


def panel(time, features="free", noise=0.0, varied=predictions.START_SWEEP) -> pd.DataFrame:
    """Medians as the flow has them after a time, with reading errors."""
    random, rows = np.random.default_rng(3), []
    for value in (0, 1, 2, 3, 4, 5, 6, 8, 10) if varied == predictions.START_SWEEP else (0.5, 5e-3, 5e-4, 5e-6):
        start, lambda_b = (value, 0.0) if varied == predictions.START_SWEEP else (10.0, value)
        found = theory.bias_flow(10, predictions.paper_c(10), float(start), time, lambda_b, features)
        rows += [{"value": value, "quantity": quantity, "median": getattr(found, quantity) + noise * random.normal(),
                  "dataset": "cifar10", "model": "Swin", "varied": varied} for quantity in frames.KINDS]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("features", theory.FEATURES)
@pytest.mark.parametrize("time", [800.0, 2800.0])
def test_a_time_is_recovered_from_medians_with_reading_errors(time, features):
    found, low, high, error = flows.fit(panel(time, features, noise=0.05), features)
    assert low <= time <= high and found == pytest.approx(time, rel=0.06) and error == pytest.approx(0.05, abs=0.02)
    other = {"free": "nonnegative", "nonnegative": "free"}[features]
    assert flows.fit(panel(time, features, noise=0.05), other)[3] > error  # the other kind of features fits worse


def test_a_panel_at_rest_does_not_bound_its_time():
    _, low, high, _ = flows.fit(panel(6e4, noise=0.05), "free")
    assert high == pytest.approx(flows.TIMES[1]) and low > 1000


def test_the_published_fits_are_those_of_a_second_way():
    """ResNet18's time by a plain search over single times."""
    fits = flows.fits().set_index("model")
    table = flows.published(predictions.START_SWEEP)
    resnet = table[table["model"] == "ResNet18"]
    times = np.linspace(1000, 2000, 101)
    errors = [np.sqrt(np.mean([(getattr(theory.bias_flow(10, predictions.paper_c(10), float(row.value), float(time),
                                                           features="nonnegative"), row.quantity) - row.median) ** 2
                                for row in resnet.itertuples()])) for time in times]
    assert fits.loc["ResNet18", "time"] == pytest.approx(times[int(np.argmin(errors))], rel=0.02)
    assert fits.loc["ResNet18", "rms"] == pytest.approx(min(errors), rel=1e-3)
    every = predictions.medians()
    every = every[(every["model"] == "ResNet18") & (every["loss"] == "bce") & (every["optimizer"] == "sgd")]
    row, near = fits.loc["ResNet18"], 0
    for each in every.itertuples():
        decays = each.varied == predictions.DECAY_SWEEP
        start, lambda_b = (10.0, each.value) if decays else (float(each.value), 0.0)
        flow = theory.bias_flow(10, predictions.paper_c(10), start, row["time"], lambda_b, "nonnegative")
        near += abs(getattr(flow, each.quantity) - each.median) <= each.reading_error + predictions.SLACK + 1e-9
    assert (row["flowed"], row["every"], row["rested"]) == (near, len(every), every["within"].sum())


def planted(config, off=0.0) -> Run:
    """A run that is collapsed from epoch 3 on, and then follows the flow, but for a part `off` of its way."""
    steps = batch_count(1442, config.batch_size)
    spent = steps * np.concatenate([[0.0], np.cumsum([config.rate(e) for e in range(1, config.epochs + 1)])]) * 10
    c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, 10)
    start = 0.5 + 0.9 * config.bias_init_mean
    flow = theory.bias_flow(10, c, start, spent[3:] - spent[3], config.lambda_b).bias
    bias = np.concatenate([[config.bias_init_mean, 0.0, 1.0], start + (1 - off) * (flow - start)])
    nc1 = [2.0, 1.0, 0.8, *np.full(config.epochs - 2, 0.2)]
    history = {"epoch": [float(e) for e in range(config.epochs + 1)], "bias_mean": bias.tolist(), "nc1": nc1}
    scores = {"train": {"bias": {"count": 10}, "positive": {"count": 1442}}}
    return Run(config, history, {}, {}, scores, {})


def runs(off=0.0) -> list[Run]:
    return [planted(config, off) for config in catalog.configs("bias_travels", "quick")]


def test_a_run_on_the_flow_is_on_the_flow():
    table = flows.moves(runs())
    assert len(table) == 15 and table["off"].max() < 1e-5 and (table["epoch"] == 3).all()
    assert flows.moves(runs(off=0.4))["off"].max() > 0.1


def test_what_the_flow_does_not_speak_of_is_left_out():
    one = runs()[0]
    for change in ({"loss": "ce"}, {"optimizer": "adamw"}):
        assert flows.path(dataclasses.replace(one, config=dataclasses.replace(one.config, **change))).empty is False
        assert not flows.paths([dataclasses.replace(one, config=dataclasses.replace(one.config, **change))])
    never = dataclasses.replace(one, history=one.history | {"nc1": [9.0] * len(one.history["nc1"])})
    last = dataclasses.replace(one, history=one.history | {"nc1": [9.0] * (len(one.history["nc1"]) - 1) + [0.1]})
    assert not flows.paths([never]) and not flows.paths([last])


def verdicts(of) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in claims.judge(room.ROOM.claims, of)}


def test_each_verdict_of_runs_follows_from_its_cause():
    assert room.own_runs(runs()).verdict == "supported"
    assert room.own_runs(runs(off=0.4)).verdict == "contradicted"
    mixed = [planted(run.config, 0.4 if run.config.lambda_b else 0.0) for run in runs()]
    assert room.own_runs(mixed).verdict == "contradicted" and room.own_runs(mixed).detail.startswith("1 of 2 sweeps")
    assert room.own_runs([]).verdict == "not run"


def fits(**changes) -> pd.DataFrame:
    rows = [{"model": model, "dataset": "cifar10", "features": "free", "time": 1000.0, "low": 900.0, "high": 1100.0,
             "rms": 0.1, "rms_other": 0.2, "rms_still": 2.0, "rms_rest": 1.0, "predicted": 0.2, "schedule": 0.3,
             "reading": 0.05, "medians": 27, "every": 45, "flowed": 30, "rested": 20} for model in ("ViT", "Swin")]
    rows[1] |= changes
    return pd.DataFrame(rows)


def test_each_verdict_of_the_figures_follows_from_its_cause(monkeypatch):
    for changes, one_time, told in (({}, "supported", "supported"), ({"rms": 1.0, "rms_other": 1.05},
                                    "contradicted", "undecided"), ({"rms_other": 0.05}, "supported", "contradicted")):
        monkeypatch.setattr(flows, "fits", lambda changes=changes: fits(**changes))
        assert (room.one_time().verdict, room.told_by_features().verdict) == (one_time, told)


def test_the_theorems_can_be_refuted(monkeypatch):
    assert room.speed_limit(20).verdict == "proved"
    monkeypatch.setattr(theory, "speed", lambda k, c, bias, lambda_b, kind: 1.01 * c)
    assert room.speed_limit(20).verdict == "refuted"


def test_the_views_stand_parts_of_their_runs():
    every = runs()
    for part in (every, every[:1], every[::4], []):
        text = room.moved(part).markdown()
        assert "nan" not in text
        plt.close(room.own_paths(part))
    assert "nan" not in room.times().markdown() + room.unfitted().markdown() + room.forgetting().markdown()
    assert "nan" not in markdown.findings(claims.judge(room.ROOM.claims, every))
    plt.close(room.published_paths())
