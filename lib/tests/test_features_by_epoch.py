"""Features by epoch: the numbers beside the pictures against their definitions, the slider's data, every verdict."""

import base64
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from bcebook.chapters import catalog
from bcebook.chapters import features_by_epoch as room
from bcebook import claims
from bcebook.report import layouts, markdown
from bcebook.runs.store import Run
from bcebook.training import kept


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """Both losses with planted features of 60 images in 3 classes: blobs that part with the epochs, BCE's further."""
    random, found = np.random.default_rng(0), []
    labels = np.arange(60) % 3
    for config in catalog.configs("features_by_epoch", "quick"):
        epochs = [0, 1, 4, 100]
        parts = [random.normal(size=(60, 5)) + (1 + (config.loss == "bce")) * at * np.eye(5)[labels]
                 for at in (0, 1.5, 3, 6)]
        values = np.stack(parts).astype("<f2")
        features = {"labels": labels.tolist(), "epochs": epochs, "width": 5,
                    "values": base64.b64encode(values.tobytes()).decode()}
        history = {"nc1": [np.nan if epoch == 4 else 1 / (1 + epoch) for epoch in range(101)]}
        scores = {"train": {"bias": {"count": 10}}}
        found.append(Run(config, history, {}, {}, scores, {}, features))
    return found


def test_the_numbers_are_their_definitions(runs):
    run = runs[0]
    table, labels = layouts.numbers(run), np.array(run.features["labels"])
    for row, each, layout in zip(table.itertuples(), layouts.features(run), layouts.layouts(run), strict=True):
        apart = np.linalg.norm(each[:, None] - each[None], axis=2)
        widths = []
        for i in range(60):
            own = apart[i][(labels == labels[i]) & (np.arange(60) != i)].mean()
            other = min(apart[i][labels == k].mean() for k in range(3) if k != labels[i])
            widths.append((other - own) / max(own, other))
        assert row.silhouette == pytest.approx(np.mean(widths), abs=1e-4)
        order = np.argsort(apart + 1e9 * np.eye(60), axis=1)
        votes = [np.bincount(labels[order[i][:10]]).argmax() for i in range(60)]
        assert row.neighbours == pytest.approx(np.mean(votes == labels))
        flat = np.linalg.norm(layout[:, None] - layout[None], axis=2) + 1e9 * np.eye(60)
        rank = np.argsort(order, axis=1)  # of each other image among the features, from 0
        invented = sum(max(rank[i, j] + 1 - 10, 0) for i in range(60) for j in np.argsort(flat[i])[:10])
        assert row.trust == pytest.approx(1 - 2 * invented / (60 * 10 * (2 * 60 - 3 * 10 - 1)), abs=1e-9)
    assert np.isnan(table["nc1"][2]) and table["nc1"][1] == 0.5


def test_layouts_are_the_same_each_time_and_follow_one_another(runs, monkeypatch):
    run = runs[0]
    first = layouts.layouts(run)
    assert first.shape == (4, 60, 2) and np.abs(first).max(axis=(1, 2)) == pytest.approx(1)
    monkeypatch.setattr(layouts, "_LAYOUTS", {})
    assert np.array_equal(layouts.layouts(run), first)
    # the last features again as one more epoch: a layout that starts where it should be stays there
    values = kept.decode(run.features).numpy()[[0, 1, 2, 3, 3]].astype("<f2")
    longer = run.features | {"epochs": [0, 1, 4, 99, 100], "values": base64.b64encode(values.tobytes()).decode()}
    monkeypatch.setattr(layouts, "_LAYOUTS", {})
    again = layouts.layouts(Run(run.config, run.history, {}, {}, run.scores, {}, longer))
    labels = np.array(run.features["labels"])
    means = lambda layout: np.stack([layout[labels == k].mean(axis=0) for k in range(3)])  # noqa: E731
    assert means(again[4]) == pytest.approx(means(again[3]), abs=0.25)


def test_the_slider_holds_the_layouts_and_loads_nothing(runs):
    html = room.slider(runs).data
    data = json.loads(re.search(r"const data = (\{.*?\}), root", html)[1])
    assert data["epochs"] == [0, 1, 4, 100] and [panel["title"] for panel in data["panels"]] == ["CE", "BCE"]
    for panel, run in zip(data["panels"], room.titles(runs).values(), strict=True):
        assert np.array(panel["points"]) == pytest.approx(layouts.layouts(run), abs=5e-4)
        assert panel["labels"] == run.features["labels"]
    assert 'max="3"' in html and "://" not in html and not re.search(r"\b(PLACE|DATA|LAST|LOSSES)\b", html)
    assert room.slider([]) == ""


def verdicts(of) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in claims.judge(room.ROOM.claims, of)}


def table(direction: float, trust: float = 0.95) -> pd.DataFrame:
    """BCE ahead of CE by 0.1 in every number, or behind."""
    signs = {"compactness": 1, "silhouette": 1, "nc1": -1, "distinctiveness": 1, "neighbours": 1}
    rows = [{"epoch": epoch, "loss": loss, "trust": trust} | {
        name: 0.5 + sign * direction * (0.1 if loss == "bce" else 0.0) for name, sign in signs.items()}
        for loss in ("ce", "bce") for epoch in (0, 1, 4)]
    return pd.DataFrame(rows)


def test_each_verdict_follows_from_its_cause(runs, monkeypatch):
    monkeypatch.setattr(room, "by_epoch", lambda runs: table(1))
    assert set(verdicts(runs).values()) == {"supported"}
    monkeypatch.setattr(room, "by_epoch", lambda runs: table(-1, trust=0.6))
    assert set(verdicts(runs).values()) == {"contradicted"}
    one = table(1)
    one.loc[(one["loss"] == "bce") & (one["epoch"] == 4), "silhouette"] = 0.1  # a single epoch the other way
    monkeypatch.setattr(room, "by_epoch", lambda runs: one)
    assert verdicts(runs)["apart"] == "contradicted" and verdicts(runs)["more_compact"] == "supported"
    start = table(1)
    start.loc[start["epoch"] == 0, "compactness"] = [0.9, 0.1]  # before training nothing is claimed
    monkeypatch.setattr(room, "by_epoch", lambda runs: start)
    assert verdicts(runs)["more_compact"] == "supported"
    monkeypatch.undo()
    assert set(verdicts([]).values()) == {"not run"}


def test_the_views_stand_parts_of_their_runs(runs):
    for part in (runs, runs[:1], runs[1:]):
        text = room.ends(part).markdown() + markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text
        for draw in room.ROOM.figures:
            plt.close(draw(part))
    assert "There is nothing" in room.ends([]).markdown()
    plt.close(room.pictures([]))
    plt.close(room.curves([]))
