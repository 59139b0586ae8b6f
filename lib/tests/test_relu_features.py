"""The chapter on ReLU features: the steps of its proof, its numbers a second way, and what would turn its findings."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

from bcebook.chapters import relu_features as room
from bcebook import claims
from bcebook.report import frames, markdown, orthogonal, predictions
from bcebook.runs.specs import NETWORKS
from bcebook.science import theory
from bcebook.training import models

matplotlib.use("Agg")


# ---- the proof, step by step

def decay(Z, G, lambda_w=2.0, n_lambda_h=0.5):
    return lambda_w / 2 * np.trace(Z @ np.linalg.pinv(G) @ Z.T) + n_lambda_h / 2 * np.trace(G)


def drawn(rng, k, d):
    H = rng.uniform(0, 1, (d, k)) * (rng.uniform(size=(d, k)) < 0.7) + 1e-2
    return rng.standard_normal((k, k)), H.T @ H


def test_the_least_decay_at_a_gram_matrix_is_what_it_is_said_to_be():
    rng = np.random.default_rng(0)
    Z, G = drawn(rng, 4, 6)
    root = np.linalg.cholesky(G).T  # some H with this Gram matrix; the sign of its entries does not matter here
    W = Z @ np.linalg.pinv(root)
    np.testing.assert_allclose(W @ root, Z, atol=1e-10)
    assert np.sum(W**2) == pytest.approx(np.trace(Z @ np.linalg.inv(G) @ Z.T))
    other = W + rng.standard_normal(W.shape) @ (np.eye(4) - root @ np.linalg.pinv(root))
    assert np.sum(other**2) >= np.sum(W**2) - 1e-9


def test_decay_is_jointly_convex_and_averaging_over_the_classes_lowers_it():
    rng = np.random.default_rng(1)
    for _ in range(200):
        (Z, G), (Y, F) = drawn(rng, 3, 5), drawn(rng, 3, 5)
        t = rng.uniform()
        assert decay(t * Z + (1 - t) * Y, t * G + (1 - t) * F) <= t * decay(Z, G) + (1 - t) * decay(Y, F) + 1e-8
        swaps = [np.eye(3)[list(order)] for order in itertools.permutations(range(3))]
        mean = [sum(P @ X @ P.T for P in swaps) / 6 for X in (Z, G)]
        assert decay(*mean) <= decay(Z, G) + 1e-8
        for X in mean:  # two numbers are left of each
            np.testing.assert_allclose(X, X[0, 1] + (X[0, 0] - X[0, 1]) * np.eye(3), atol=1e-12)
        assert mean[1][0, 1] >= 0


def test_the_larger_set_of_gram_matrices_is_reached_by_features_without_a_negative_entry():
    rng = np.random.default_rng(2)
    for k in (2, 3, 10):
        for g1, g2 in np.sort(rng.exponential(size=(20, 2))):
            G = g1 * (np.eye(k) - 1 / k) + g2 / k
            H = np.sqrt(g1) * (np.eye(k) - 1 / k) + np.sqrt(g2) / k
            assert H.min() >= 0
            np.testing.assert_allclose(H.T @ H, G, atol=1e-12)


@pytest.mark.parametrize("p, q", [(5.0, -1.0), (5.0, -5.0), (2.0, 0.5), (3.0, -0.75)])
def test_the_least_decay_of_two_scores(p, q, k=5):
    """Over g1 and g2 >= g1 by a search; the theorem's D, with lambda_W = n lambda_H = c."""
    c, s1, s2 = 0.01, abs(p - q), abs(p + (k - 1) * q)

    def cost(x):
        g1, more = np.exp(x)
        return c / 2 * ((k - 1) * (s1**2 / g1 + g1) + s2**2 / (g1 + more) + g1 + more)

    best = min(minimize(cost, (0.0, start), method="Nelder-Mead", options={"fatol": 1e-14, "xatol": 1e-9}).fun
               for start in (0.0, -30.0))
    D = c * ((k - 1) * s1 + s2) if s2 >= s1 else c * k * np.hypot(p, np.sqrt(k - 1) * q)
    assert best == pytest.approx(D, rel=1e-7)


# ---- theory on the page

def test_the_minimum_is_checked_and_could_fail(monkeypatch):
    found = room.minimum()
    assert found.verdict == "proved" and found.n == orthogonal.SETTINGS and found.control.verdict == "refuted"
    assert room.cosine().verdict == "proved"
    table = orthogonal.minimised()
    assert {"ce", "bce"} == set(table["loss"]) and (table["cosine"] > 1e-3).sum() >= 3 <= table["cosine"].isna().sum()
    monkeypatch.setattr(orthogonal, "minimised", lambda: table.assign(
        above=table["above"] - 1e-9, cosine_found=table["cosine_found"] + 1e-3))
    assert room.minimum().verdict == "refuted" == room.cosine().verdict


def test_the_table_of_both_minima_and_who_has_which():
    frame = room.minima().frame.set_index(["loss", "lambda_b"])
    assert frame.loc[("bce", 0.0), "positive_nonnegative"] == pytest.approx(9.2977, abs=1e-4)
    assert frame.loc[("bce", 5e-5), "bias_nonnegative"] == pytest.approx(4.9902, abs=1e-4)
    assert frame.loc[("bce", 5e-4), "apart"] < 1e-9 < frame.loc[("ce", 0.0), "apart"]
    free, _, nonnegative = room.minima().markdown().partition("*Nonnegative*: ")
    for spec in NETWORKS.values():
        assert spec.display in (free if spec.features == "signed" else nonnegative), spec.name


def test_the_centred_measures_are_blind_and_the_raw_cosine_is_not(monkeypatch):
    found = room.centred_blind()
    assert found.verdict == "proved" and found.control.verdict == "refuted"
    table = orthogonal.collapse()
    assert table["centred"].to_numpy() == pytest.approx(-1 / 9) and table["nc3"].max() < 1e-7
    monkeypatch.setattr(orthogonal, "collapse", lambda: table.assign(nc2_means=0.1))
    assert room.centred_blind().verdict == "refuted"


def test_resnet18s_values_are_counted_one_by_one(monkeypatch):
    table = orthogonal.published()
    values = predictions.values()
    for row in table.itertuples():
        assert row.model == "ResNet18" and abs(row.free - row.nonnegative) > row.reading_error
        assert row.nearer == (abs(row.median - row.nonnegative) < abs(row.median - row.free))
    assert room.resnet18().n == len(table) < (values["model"] == "ResNet18").sum()
    many = pd.concat([table] * 3, ignore_index=True)
    for nearer, verdict in ((True, "supported"), (False, "contradicted")):
        monkeypatch.setattr(orthogonal, "published", lambda nearer=nearer: many.assign(nearer=nearer))
        assert room.resnet18().verdict == verdict


def test_the_maps_show_each_geometry_where_it_is():
    figure = room.phases()
    for ax, features in zip(figure.axes, theory.FEATURES):
        mesh = ax.collections[0]
        shown = np.asarray(mesh.get_array()).reshape(160, 160)
        lambda_b, c = np.geomspace(1e-5, 1, 160), np.geomspace(2e-4, 0.2, 160)
        row = np.abs(c - predictions.paper_c(10)).argmin()
        critical = theory.critical_lambda_b("bce", 10, c[row], features)
        at = np.searchsorted(lambda_b, critical)
        assert shown[row, at - 2] == {"free": 1, "nonnegative": 3}[features]
        assert shown[row, -1] == 4 and shown[-1, 0] == 0
    plt.close(figure)


# ---- trained networks

def planted(cosines, features="nonnegative"):
    """A table as `orthogonal.trained` gives it, with one cosine a seed."""
    return pd.DataFrame([{"network": ("resnet9", "cifar10"), "features": features, "loss": "ce", "seed": seed, "cosine": x,
                          "cosine_free": -1 / 9, "cosine_nonnegative": 0.0} for seed, x in enumerate(cosines)],
                        columns=["network", "features", "loss", "seed", "cosine", "cosine_free", "cosine_nonnegative"])


@pytest.mark.parametrize("cosines, features, verdict", [
    ((0.01, 0.02, 0.0), "nonnegative", "supported"), ((-0.11, -0.10, -0.11), "nonnegative", "contradicted"),
    ((-0.11, -0.10, -0.11), "free", "supported"), ((0.1, -0.12, 0.0), "nonnegative", "undecided"),
    ((0.02,), "nonnegative", "undecided"), ((), "free", "not run")])
def test_whose_side_the_class_means_are_on(monkeypatch, cosines, features, verdict):
    monkeypatch.setattr(orthogonal, "trained", lambda runs: planted(cosines, features))
    assert room.own_cosine([]).verdict == verdict


def test_where_the_two_kinds_have_one_angle_nothing_is_told(monkeypatch):
    monkeypatch.setattr(orthogonal, "trained", lambda runs: planted((0.1, 0.1, 0.1)).assign(cosine_free=0.0))
    assert room.own_cosine([]).verdict == "not run"


def test_what_is_at_rest_beside_a_run_is_the_least_loss_and_decay_at_its_bias(eight):
    for run in eight:
        if run.config.decay != "decoupled":
            continue
        found = orthogonal.at_rest(run, "free")
        k, c = 10, predictions.paper_c(10)
        if run.config.loss == "ce":
            assert found["cosine"] == pytest.approx(-1 / 9)
            continue
        b = frames.summary(run, "train", "bias").median

        def f(x, b=b):
            p, q = x
            return (np.log1p(np.exp(b - p)) + (k - 1) * np.log1p(np.exp(q - b))
                    + c * ((k - 1) * abs(p - q) + abs(p + (k - 1) * q)))

        best = min((minimize(f, start, method="Nelder-Mead", options={"fatol": 1e-13, "xatol": 1e-8})
                    for start in ((8.0, -1.0), (4.0, -4.0))), key=lambda each: each.fun)
        assert f((found["positive"], found["negative"])) <= best.fun + 1e-9


def test_the_twins_differ_in_their_last_relu_alone():
    for profile in ("quick", "laptop"):
        configs = room.configs(profile, 0)
        assert len(configs) == 4 and {c.optimizer for c in configs} == {"sgd"} and {c.decay for c in configs} == {"decoupled"}
        kinds = {NETWORKS[c.model].features for c in configs}
        assert kinds == {"signed", "nonnegative"}
        nets = []
        for name, _ in room.TWINS[profile]:
            torch.manual_seed(0)
            nets.append(models.build(name, 10, NETWORKS[name].channels).eval())
        signed, held = sorted(zip(nets, room.TWINS[profile]), key=lambda each: NETWORKS[each[1][0]].features, reverse=True)
        signed, held = signed[0], held[0]
        for a, b in zip(signed.state_dict().values(), held.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        x = torch.randn(6, NETWORKS[name].channels, NETWORKS[name].side, NETWORKS[name].side)
        assert (held(x)[1] >= 0).all() and (signed(x)[1] < 0).any()


def test_the_page_of_a_few_runs_has_no_nan(eight):
    text = room.networks(eight).markdown() + markdown.findings(claims.judge(room.ROOM.claims, eight))
    text += room.networks([]).markdown() + markdown.findings(claims.judge(room.ROOM.claims, []))
    assert "nan" not in text
    for runs in (eight, []):
        plt.close(room.along_epochs(runs))
