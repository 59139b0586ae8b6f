"""How the bias travels: times recovered from planted figures, paths of planted runs, every verdict from its cause."""

import functools
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from bcebook.chapters import bias_travels as room
from bcebook.chapters import catalog
from bcebook import claims
from bcebook.report import bias_paths, flows, frames, markdown, predictions
from bcebook.runs.config import batch_count
from bcebook.runs.store import Run
from bcebook.science import theory
from bcebook.training import measure


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
    flow = functools.cache(lambda start, time: theory.bias_flow(10, predictions.paper_c(10), start, time,
                                                                features="nonnegative"))
    errors = [np.sqrt(np.mean([(getattr(flow(float(row.value), float(time)), row.quantity) - row.median) ** 2
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


def planted(config, off=0.0, lags=False) -> Run:
    """A run that is collapsed from epoch 3 on, and then follows the flow of the bias, or where its classifier lags that
    of both, but for a part `off` of its way. AdamW's steps get longer as its second moments fall."""
    epochs, rates = range(config.epochs + 1), [config.rate(epoch) for epoch in range(1, config.epochs + 1)]
    pace = np.full(config.epochs + 1, 10.0) if config.optimizer == "sgd" else 20.0 + np.arange(config.epochs + 1)
    middle = (pace[1:] + pace[:-1]) / 2
    middle[0] = pace[1]  # before its first step AdamW has no second moments
    spent = batch_count(1442, config.batch_size) * np.concatenate([[0.0], np.cumsum(rates * middle)])
    c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, 10)
    start = 0.5 + 0.9 * config.bias_init_mean
    time, seen = spent[3:] - spent[3], {}
    flow = theory.bias_flow(10, c, start, time, config.lambda_b).bias
    if lags:
        cosines = np.linspace(0.4, 0.1, len(time))
        cosines[1::2] = np.interp(time[1::2], time[::2], cosines[::2])
        seen = {"raw_cosine": [np.nan] * 3 + cosines.tolist(),
                "positive_median": [3.0] * len(spent), "negative_median": [-2.5] * len(spent)}
        flow = theory.classifier_flow(10, c, config.lambda_w, start, 3.0, -2.5, time, cosines, config.lambda_b).bias
    bias = np.concatenate([[config.bias_init_mean, 0.0, 1.0], start + (1 - off) * (flow - start)])
    nc1 = [2.0, 1.0, 0.8, *np.full(config.epochs - 2, 0.2)]
    history = {"epoch": [float(e) for e in epochs], "bias_mean": bias.tolist(), "nc1": nc1,
               "bias_pace": [np.nan, *pace[1:]]} | seen
    scores = {"train": {"bias": {"count": 10}, "positive": {"count": 1442}}}
    return Run(config, history, {}, {}, scores, {})


def runs(off=0.0, lags=False) -> list[Run]:
    return [planted(config, off, lags) for config in catalog.configs("bias_travels", "quick")]


def test_a_run_on_the_flow_is_on_the_flow():
    table = bias_paths.moves(runs())
    assert len(table) == 19 and table["off"].max() < 1e-5 and (table["epoch"] == 3).all()
    assert bias_paths.moves(runs(off=0.4))["off"].max() > 0.1
    wrong = bias_paths.wrong(runs(off=0.4))
    # Starts and decays with either optimizer, and of the network with a last ReLU three seeds.
    assert wrong["runs"].tolist() == [6, 4, 3, 3, 3] and wrong["flow"].tolist() == pytest.approx([2 / 3] * 5, rel=1e-3)
    assert wrong["both"].isna().all()
    still = [planted(config) for config in catalog.configs("bias_travels", "quick") if config.lambda_b == 0.5]
    for run in still:
        run.history["bias_mean"] = [0.1] * len(run.history["epoch"])
    assert bias_paths.wrong(still)["flow"].isna().all() and room.own_runs(still).verdict == "not run"
    assert "nan" not in room.domain(still).markdown()
    assert bias_paths.wrong(runs(), 0.1).empty and "nan" not in room.domain(runs()).markdown()


def test_a_run_whose_classifier_lags_is_on_the_flow_of_both():
    every = [run for run in runs(lags=True) if run.config.optimizer == "sgd"]
    wrong = bias_paths.wrong(every)
    assert wrong["both"].max() < 1e-6 and wrong["flow"].max() > 0.25
    text = room.domain(every).markdown()
    assert "nan" not in text and "| of bias and classifier | 0.0 % of 6 runs |" in text
    now_and_then = every[0]
    cosines = now_and_then.history["raw_cosine"]
    cosines[4:-1:2] = [np.nan] * len(cosines[4:-1:2])  # as where the training set is looked at now and then
    assert bias_paths.wrong([now_and_then])["both"].max() < 1e-3
    before = dataclasses.replace(every[1], history={k: v for k, v in every[1].history.items() if k != "raw_cosine"})
    assert bias_paths.wrong([every[0], before])["both"].isna().all()  # a sweep of which one run lacks it
    assert bias_paths.wrong([run for run in runs(lags=True) if run.config.optimizer == "adamw"])["both"].isna().all()


def test_what_the_flow_does_not_speak_of_is_left_out():
    one = runs()[0]
    for change in ({"loss": "ce"}, {"decay": "global", "weight_decay": 5e-4, "lambda_w": None, "lambda_h": None,
                                      "lambda_b": None}):
        other = dataclasses.replace(one, config=dataclasses.replace(one.config, **change))
        assert not bias_paths.suits(other) and not bias_paths.paths([other])
    adamw = next(run for run in runs() if run.config.optimizer == "adamw")
    before = dataclasses.replace(adamw, history={k: v for k, v in adamw.history.items() if k != "bias_pace"})
    assert bias_paths.suits(adamw) and not bias_paths.paths([before])  # an engine that did not record the clock
    never = dataclasses.replace(one, history=one.history | {"nc1": [9.0] * len(one.history["nc1"])})
    last = dataclasses.replace(one, history=one.history | {"nc1": [9.0] * (len(one.history["nc1"]) - 1) + [0.1]})
    assert not bias_paths.paths([never]) and not bias_paths.paths([last])


def verdicts(of) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in claims.judge(room.ROOM.claims, of)}


def test_each_verdict_of_runs_follows_from_its_cause():
    for finding, sweeps in ((room.own_runs, 3), (room.own_clock, 2)):
        assert finding(runs()).verdict == "supported" and finding(runs()).n == sweeps
        assert finding(runs(off=0.4)).verdict == "contradicted"
        mixed = [planted(run.config, 0.4 if run.config.lambda_b else 0.0) for run in runs()]
        assert finding(mixed).verdict == "contradicted" and finding(mixed).value == (sweeps - 1) / sweeps
        assert finding([]).verdict == "not run"
    of_sgd = [run for run in runs() if run.config.optimizer == "sgd"]
    assert (room.own_runs(of_sgd).verdict, room.own_clock(of_sgd).verdict) == ("supported", "not run")
    assert room.own_classifier(of_sgd).verdict == room.own_classifier([]).verdict == "not run"
    assert room.own_classifier(runs(lags=True)).verdict == "supported"
    assert room.own_classifier(runs(off=0.4, lags=True)).verdict == "contradicted"
    assert room.own_runs(runs(lags=True)).verdict == "contradicted"


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_pace_is_how_far_a_steady_gradient_moves_a_bias(name):
    bias = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = {"sgd": lambda: torch.optim.SGD([bias], 0.1, momentum=0.9),
                 "adamw": lambda: torch.optim.AdamW([bias], 0.1, weight_decay=0.0)}[name]()
    assert np.isnan(measure.bias_pace(optimizer, bias))
    gradient = torch.tensor([0.5, -0.02, 0.1], dtype=torch.float64)
    for _ in range(300):
        bias.grad = gradient.clone()
        before = bias.detach().clone()
        optimizer.step()
    moved = (before - bias.detach()) / 0.1 / gradient
    assert measure.bias_pace(optimizer, bias) == pytest.approx(float(moved.mean()), rel=1e-6)
    assert np.isnan(measure.bias_pace(optimizer, torch.zeros(3)))  # a bias that is not trained


def test_adamw_follows_the_flow_by_its_own_clock():
    """A noisy gradient that pulls towards 3 like the flow's last part: AdamW's path against the exponential in the time
    that its paces add up to."""
    random, pull, rate = np.random.default_rng(0), 0.05, 0.002
    bias = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer, time, start = torch.optim.AdamW([bias], rate, weight_decay=0.0), 0.0, None
    for step in range(3000):
        bias.grad = pull * (bias.detach() - 3) + torch.tensor(0.3 * random.normal(size=50))
        optimizer.step()
        if step == 200:
            start = float(bias.detach().mean())
        if step > 200:
            time += rate * measure.bias_pace(optimizer, bias)
    end = float(bias.detach().mean())
    assert end == pytest.approx(3 + (start - 3) * np.exp(-pull * time), abs=0.02) and end - start > 0.5


def fits(**changes) -> pd.DataFrame:
    rows = [{"model": model, "dataset": "cifar10", "features": "free", "time": 1000.0, "low": 900.0, "high": 1100.0,
             "rms": 0.1, "rms_other": 0.2, "rms_still": 2.0, "rms_rest": 1.0, "predicted": 0.2, "predicted_rest": 0.4,
             "decay_medians": 18,
             "schedule": 0.3,
             "reading": 0.05, "medians": 27, "every": 45, "flowed": 30, "rested": 20} for model in ("ViT", "Swin")]
    rows[1] |= changes
    return pd.DataFrame(rows)


def test_each_verdict_of_the_figures_follows_from_its_cause(monkeypatch):
    for changes, one_time, told in (({}, "supported", "supported"), ({"rms": 1.0, "rms_other": 1.05},
                                    "contradicted", "undecided"), ({"rms_other": 0.05}, "supported", "contradicted")):
        monkeypatch.setattr(flows, "fits", lambda optimizer="sgd", changes=changes: fits(**changes))
        assert (room.one_time().verdict, room.told_by_features().verdict) == (one_time, told)
    for predicted, verdict in ((0.2, "supported"), (0.39, "undecided"), (0.8, "contradicted"), (np.nan, "supported")):
        monkeypatch.setattr(flows, "fits", lambda optimizer="sgd", predicted=predicted: fits(predicted=predicted))
        assert room.predicts_decays().verdict == verdict
        assert room.predicts_decays().n == (2 if np.isnan(predicted) else 4)


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
    assert "nan" not in "".join(view(name).markdown() for view in (room.times, room.unfitted)
                                   for name in ("sgd", "adamw")) + room.forgetting().markdown()
    assert "nan" not in markdown.findings(claims.judge(room.ROOM.claims, every))
    plt.close(room.published_paths())
