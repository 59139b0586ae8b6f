"""The chapter on long-tailed classes: what it trains, what its tables say, and each verdict from its cause."""

import dataclasses
import math

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.linalg
import torch

from bcebook import claims, frame, paper
from bcebook.chapters import catalog, experiments, recipes
from bcebook.chapters.registry import rooms
from bcebook.report import markdown, tails
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS
from bcebook.runs.store import Run
from bcebook.science import early_flow, stats
from bcebook.science.losses import LOSSES
from bcebook.science.summaries import score_summary
from bcebook.training import datasets

matplotlib.use("Agg")
NOISE = (-0.004, 0.001, 0.003, -0.001, 0.002)  # of the seeds, on BCE's figures alone
chapter = rooms()["long_tailed"]
defined = chapter.definitions


def planted(gain=0.0, uniform=0.0, many=0.0, few=0.0, noise=1.0, profile="quick", later=0.0) -> list[Run]:
    """The chapter's runs (five seeds in the quick profile) with BCE - CE as given, one number or a dict by imbalance (one
    that it lacks: nan), plus NOISE so many times; later: what BCE gains by biases that start elsewhere, in all figures
    and in the negative scores, which are -1 from 0."""
    made = []
    for config in chapter.configs(profile, range(5) if profile == "quick" else None):
        start = later + noise * NOISE[config.seed] if config.bias_init_mean else 0.0

        def value(base, gap, config=config, start=start):
            gap = gap.get(config.imbalance_factor, math.nan) if isinstance(gap, dict) else gap
            return base + (config.loss == "bce") * (gap + noise * NOISE[config.seed]) + start
        final = {"test_accuracy": value(0.6, gain), "test_uniform_accuracy": value(0.5, uniform),
                 "train_accuracy": 0.9 + start, "test_accuracy_many": value(0.8, many),
                 "test_accuracy_medium": value(0.6, 0.0), "test_accuracy_few": value(0.3, few)}
        scores = {kind: score_summary(torch.full((355,), -1.0 + start)).to_dict() for kind in
                  ("positive", "negative", "bias")}
        history = {"bias_mean": [config.bias_init_mean, 0.5], "train_loss": [1.0] * (config.epochs + 1)}
        made.append(Run(config, history, final, {}, {"train": scores, "test": scores}, {}))
    return made


def judged(runs) -> dict:
    """Claim about networks -> its finding."""
    tested = [claim for claim in chapter.claims if not claim.theory]
    return {each.name.partition(".")[2]: each.finding for each in claims.judge(tested, frame.of(runs))}


def verdicts(runs) -> dict[str, str]:
    return {name: finding.verdict for name, finding in judged(runs).items()}


def of_theory() -> dict:
    return {each.name.partition(".")[2]: each.finding for each in claims.judge(chapter.claims)}


# ---- the theorem -----------------------------------------------------------------------------------------------------

def test_what_is_proved_and_what_is_refuted():
    found = of_theory()
    assert {name: found[name].verdict for name in ("same_flow", "common_mode", "moving_biases", "contrasts_lag")} == {
        "same_flow": "proved", "common_mode": "proved", "moving_biases": "proved", "contrasts_lag": "refuted"}
    assert [found[name].n for name in ("same_flow", "common_mode", "moving_biases", "contrasts_lag")] == [6, 9, 6, 4]
    control = found["same_flow"].control  # from 0 the flows differ
    assert control.verdict == "refuted" and "up to 31 times as fast" in control.detail


def test_a_wrong_theorem_would_be_refuted(monkeypatch):
    right = early_flow.rates
    monkeypatch.setattr(early_flow, "rates", lambda loss, k, bias, n=1: right(loss, k, bias + 0.1, n))
    assert early_flow.common_mode().verdict == "refuted"
    monkeypatch.setattr(early_flow, "velocity", lambda *args: [2 * each for each in velocity(*args)])
    assert early_flow.moving().verdict == "proved"  # time runs twice as fast for all
    monkeypatch.setattr(early_flow, "velocity", lambda *args: [*velocity(*args)[:2], 2 * velocity(*args)[2]])
    assert early_flow.moving().verdict == "refuted"  # the biases alone


velocity = early_flow.velocity


@pytest.mark.parametrize("loss", recipes.LOSSES)
def test_the_flow_is_minus_the_gradient_of_the_books_losses(loss):
    """Against autograd, sample by sample, with unequal classes; and the Jacobian against autograd's Hessian."""
    torch.manual_seed(0)
    counts = torch.tensor([3, 1, 2, 4])
    labels = torch.repeat_interleave(torch.arange(4), counts)
    W, H, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 3), (3, 4), (4,)))
    features = H[:, labels].detach().requires_grad_()
    LOSSES[loss](features.T @ W.T - b, labels).backward()
    found = velocity(loss, W.detach().numpy(), H.detach().numpy(), b.detach().numpy(), counts.numpy())
    first = [int(counts[:k].sum()) for k in range(4)]  # one sample of each class
    for ours, theirs in zip(found, (W.grad, features.grad[:, first], b.grad), strict=True):
        assert ours == pytest.approx(-theirs.numpy(), abs=1e-12)

    def of_one_dimension(x):
        return LOSSES[loss](x[4:][labels][:, None] @ x[None, :4] - 0.7, labels)
    hessian = torch.autograd.functional.hessian(of_one_dimension, torch.zeros(8, dtype=torch.float64)).numpy()
    hessian[4:] /= counts.numpy()[:, None]  # of one sample's feature, not of all of its class
    assert early_flow.linearised(loss, 0.7, counts.numpy()) == pytest.approx(-hessian, abs=1e-10)


@pytest.mark.parametrize("biases, same", [(math.log(6), True), (0.0, False)])
def test_at_zero_classifier_every_gradient_of_a_network_is_ces(biases, same):
    """Any network, any class sizes: all gradients of BCE from log(K - 1) are CE's, those of W and biases are not 0."""
    torch.manual_seed(0)
    network, x, labels = torch.nn.Linear(5, 8), torch.randn(20, 5), torch.tensor([0] * 11 + [1, 2, 3, 4, 5, 6] + [1] * 3)
    gradients = {}
    for loss, bias in (("ce", 0.0), ("bce", biases)):
        W, b = torch.zeros(7, 8, requires_grad=True), torch.full((7,), bias, requires_grad=True)
        network.zero_grad()
        LOSSES[loss](network(x).relu() @ W.T - b, labels).backward()
        gradients[loss] = [W.grad, b.grad, network.weight.grad]
        assert W.grad.abs().max() > 0.01 and network.weight.grad.abs().max() == 0
    close = [torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients.values(), strict=True)]
    assert close == [same, same, True]


def test_the_biases_share_in_the_first_change_of_the_mean_logit():
    generator = np.random.default_rng(0)
    for k in (3, 10, 100):
        H, counts = generator.normal(1.0, 1.0, (8, k)), generator.integers(1, 50, k)
        mean = H @ counts / counts.sum()
        W, features, bias = velocity("bce", np.zeros((k, 8)), H, np.zeros(k), counts)
        assert W.mean(0) == pytest.approx(-(0.5 - 1 / k) * mean) and bias.mean() == pytest.approx(0.5 - 1 / k)
        share = bias.mean() / (bias.mean() - W.mean(0) @ mean)
        assert share == pytest.approx(1 / (1 + mean @ mean)) and not features.any()


def test_the_simulation_follows_the_matrix_exponential_while_it_is_small():
    k, until = 4, 10.0
    path = early_flow.simulate("bce", k, 0.0, until, start=1e-6)
    first = np.random.default_rng(0).normal(size=(2, k, k)) * 1e-6 / 2
    state = scipy.linalg.expm(until * early_flow.linearised("bce", 0.0, np.ones(k))) @ np.r_[first[0], first[1].T]
    plus, minus = (state[:k] + state[k:]) / 2, (state[:k] - state[k:]) / 2
    assert path.contrasts[-1] == pytest.approx(np.linalg.norm(plus - plus.mean(0)), rel=1e-4)
    assert path.common[-1] == pytest.approx(2 * np.linalg.norm(minus.mean(0)), rel=1e-4)
    late = early_flow.simulate("ce", 10, 0.0, 3.0 * 10 * math.log(1e4), start=1e-4, moving=True)
    assert late.contrasts[-1] > 1  # so that `lag` compares times that were reached


def test_unequal_classes_have_a_common_mode_too():
    sizes = tails.long_tailed_sizes(100)
    ce, from_0 = early_flow.growth("ce", 0.0, sizes), early_flow.growth("bce", 0.0, sizes)
    assert ce == pytest.approx(early_flow.growth("bce", math.log(99), sizes))
    assert from_0 >= 49 * math.sqrt(sizes.sum() / 100) / sizes.sum() and from_0 > 20 * ce


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
        sizes = tails.class_sizes(Run(config, {}, {}, {}, {}, {}))
        assert len(sizes) == DATASETS[config.dataset].num_classes and sizes.min() >= 1
        assert sizes.max() / sizes.min() >= 0.95 * config.imbalance_factor
        rest = sizes.sum() % config.batch_size
        assert rest == 0 or rest >= config.batch_size / 4
    assert datasets.load("digits").subset(None, 50.0).y_train.size % recipes.BATCH_SIZE == 3  # why quick has its own


def test_class_sizes_are_those_of_the_images_that_a_run_sees():
    for run in planted()[::10]:
        seen = np.bincount(datasets.load("digits").subset(None, run.config.imbalance_factor).y_train)
        assert tails.class_sizes(run).tolist() == seen.tolist()
        counted = [sum(n > 100 for n in seen), sum(20 <= n <= 100 for n in seen), sum(n < 20 for n in seen)]
        assert tails.shots_of(run) == (f"{counted[0]} many-shot, {counted[1]} medium-shot and {counted[2]} few-shot at "
                                       f"imbalance {run.config.imbalance_factor:g}")
    run = next(run for run in planted(profile="paper") if run.config.imbalance_factor == 100)  # without CIFAR's files
    assert tails.class_sizes(run).tolist() == [math.floor(500 * 100 ** (-k / 99) + 1e-9) for k in range(100)]
    assert tails.class_sizes(run).tolist() == tails.long_tailed_sizes(100).tolist()


# ---- the paper's table -----------------------------------------------------------------------------------------------

def test_the_papers_own_table_and_what_would_contradict_it(monkeypatch):
    found = defined["published"]()
    raw = {(r.imbalance_factor, r.loss): r.accuracy for r in paper.long_tailed().itertuples()}
    assert all(found["difference"][f] == pytest.approx(raw[f, "bce"] - raw[f, "ce"]) for f in (10, 50, 100))
    theory = {claim.name.partition(".")[2]: claim.judge for claim in chapter.claims if claim.theory}
    both = lambda: (theory["table_higher"]().verdict, theory["table_grows"]().verdict)  # noqa: E731
    assert both() == ("supported", "supported") and (theory["table_higher"]().n, theory["table_grows"]().n) == (3, 2)

    def altered(factor, by):
        table = original()
        table.loc[(table["imbalance_factor"] == factor) & (table["loss"] == "bce"), "accuracy"] += by
        return lambda: table

    original = paper.long_tailed
    monkeypatch.setattr(paper, "long_tailed", altered(10, 0.004))  # still above, but no longer growing
    assert both() == ("supported", "contradicted")
    monkeypatch.setattr(paper, "long_tailed", original)
    monkeypatch.setattr(paper, "long_tailed", altered(10, -0.0063))  # level, but for rounding
    assert both() == ("contradicted", "supported")


# ---- verdicts --------------------------------------------------------------------------------------------------------

def test_every_claim_can_be_supported_contradicted_and_undecided():
    rising = {10: 0.01, 50: 0.02, 100: 0.04}
    falling = {factor: -gap for factor, gap in rising.items()}
    names = ["higher", "grows", "higher_uniform", "few_higher", "few_more", "start", "start_fits", "start_scores"]
    assert verdicts(planted(rising, 0.1, 0.0, rising, 1.0, "laptop", 0.05)) == dict.fromkeys(names, "supported")
    assert verdicts(planted(falling, -0.1, 0.0, falling, 1.0, "laptop", -0.05)) == dict.fromkeys(names, "contradicted")
    loose = verdicts(planted(0.01, 0.01, 0.01, 0.01, noise=50))  # quick has no runs that start elsewhere
    assert loose == dict.fromkeys(names[:5], "undecided") | dict.fromkeys(names[5:], "not run")
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
    parts = judged(planted(gap, noise=0.5))["higher"].parts
    raw = [part.p for part in parts]
    each = [gap + 0.5 * noise for noise in NOISE]
    assert raw == pytest.approx([stats.student_p(each)] * 3, rel=1e-6) and 0.05 / 3 < raw[0] < 0.05
    assert {(part.verdict, part.adjusted) for part in parts} == {("supported", "undecided")}


def test_gains_on_the_few_are_told_from_gains_on_the_many():
    everywhere = judged(planted(many=0.03, few=0.03))["few_higher"]
    assert everywhere.verdict == everywhere.control.verdict == "supported"
    only = judged(planted(few=0.03))["few_higher"]
    assert only.verdict == "supported" and only.control.verdict == "undecided"
    table = defined["gaps"](frame.of(planted(few={100: 0.03})), "test_accuracy_few")
    assert list(table) == [100] and dict(table[100]) == pytest.approx({seed: 0.03 + NOISE[seed] for seed in range(5)})
    absent = judged(planted(few={50: 0.05, 100: 0.05}))["few_more"]  # as CIFAR100-LT, with no few-shot class at 10
    assert [part.label for part in absent.parts] == ["imbalance 50", "imbalance 100"]


def test_a_start_changes_nothing_but_what_is_told_of_it():
    """Whatever the runs that start elsewhere say, the claims about the losses compare the others."""
    with_it, without = planted(0.02, 0.1, profile="laptop", later=0.3), planted(0.02, 0.1, profile="laptop")
    one, other = judged(with_it), judged(without)
    assert all(one[name] == other[name] for name in ("higher", "grows", "higher_uniform", "few_higher", "few_more"))
    each = [0.3 + 2 * NOISE[seed] - NOISE[seed] for seed in range(3)]
    row, = defined["start_gain"](frame.of(with_it), "test_accuracy").to_dict("records")
    assert row["each"].tolist() == pytest.approx(each) and row["imbalance_factor"] == 100
    assert one["start"].value == pytest.approx(np.mean(each)) and one["start"].n == 3
    assert one["start_scores"].value == pytest.approx(0.3 + np.mean(NOISE[:3]), abs=1e-6)
    assert one["start_fits"].value == pytest.approx(0.3 + np.mean(NOISE[:3]))
    rows = defined["against_ce"](frame.of(with_it), ["test_accuracy"]).set_index(["imbalance_factor", "start"])["mean"]
    assert len(rows) == 4 and rows[100, 4.6] - rows[100, 0] == pytest.approx(np.mean(each))
    share = 0.5 / (0.5 + 1 - 0.3 - NOISE[0])  # of the bias in the negative logit
    assert 0.3 < share < 0.5 and f"{100 * 0.5 / 1.5:.1f}" in defined["starts"](frame.of(with_it)).data
    alone = frame.of([run for run in with_it if run.config.bias_init_mean])
    assert "nan" not in defined["starts"](alone).data and judged(list(alone["run"]))["start"].verdict == "not run"
    assert "nothing to show" in defined["starts"](frame.of(planted())).data
    text = defined["result"](frame.of(with_it)).data
    assert text.index("minus BCE from 0") < text.index("minus CE") and text.count("\n- ") == 5 and "18 of 18" not in text
    assert "21 of 21 runs have levelled off" in text


def test_what_is_still_learning_decides_nothing_about_the_end():
    """Short runs whose losses still fall: "contradicted" by the rule, and "still moving" as a verdict."""
    runs = planted(-0.05, profile="laptop", later=0.1)
    for run in runs:
        run.history["train_loss"] = [2.0 - 0.1 * epoch for epoch in range(run.config.epochs + 1)]
    found = {each.name.partition(".")[2]: each.finding for each in
             claims.judge(chapter.claims, frame.of(runs), chapter.configs("laptop"))}
    assert verdicts(runs)["higher"] == "contradicted" and found["higher"].verdict == "still moving"
    assert (found["higher"].planned, found["start"].planned, found["start"].verdict) == (18, 6, "supported")
    assert "training accuracy" in defined["accuracies"](frame.of(runs)).data  # stands beside it


def test_the_growth_is_paired_by_seed():
    runs = [run for run in planted({10: 0.01, 50: 0.5, 100: 0.04}) if run.config.seed != 2 or
            run.config.imbalance_factor != 10]
    for index, run in enumerate(runs):
        run.final["test_accuracy"] += 0.001 * math.cos(index)
    value = {(r.config.imbalance_factor, r.config.loss, r.config.seed): r.final["test_accuracy"] for r in runs}
    gap = lambda factor, seed: value[factor, "bce", seed] - value[factor, "ce", seed]  # noqa: E731
    found = judged(runs)["grows"]
    assert found.n == 4 and found.verdict == "supported" and "at 100 minus BCE − CE at 10" in found.detail
    assert found.value == pytest.approx(np.mean([gap(100, seed) - gap(10, seed) for seed in (0, 1, 3, 4)]))
    assert judged([run for run in runs if run.config.imbalance_factor == 10])["grows"].verdict == "not run"


# ---- views -----------------------------------------------------------------------------------------------------------

def test_views_take_runs_in_pieces():
    runs = planted(0.02, 0.1, 0.0, {50: 0.05, 100: 0.05})
    laptop = planted(0.02, profile="laptop", later=0.1)
    for part in (runs[:1], runs[::7], [run for run in runs if run.config.loss == "ce"], [], laptop):
        for view in chapter.figures:
            shown = view(frame.of(part))
            assert "nan" not in getattr(shown, "data", "")
            plt.close("all")
        assert "nan" not in defined["result"](frame.of(part)).data
        assert "nan" not in markdown.findings(claims.judge(chapter.claims, frame.of(part)))


def test_runs_that_did_not_measure_groups_are_left_out_of_them():
    runs = planted(0.02)
    for run in runs:
        for group in defined["GROUPS"]:
            del run.final[group]
    assert verdicts(runs)["few_higher"] == verdicts(runs)["few_more"] == "not run"
    assert verdicts(runs)["higher"] == "supported" and ">few-shot<" not in defined["accuracies"](frame.of(runs)).data
    plt.close(defined["by_group"](frame.of(runs)))


def test_figure_and_table_show_the_pairs():
    runs = frame.of(planted({10: 0.01, 50: 0.02, 100: 0.04}, 0.1))
    figure = defined["by_start"](runs)
    offsets = [np.asarray(c.get_offsets()) for c in figure.axes[1].collections if len(c.get_offsets())]
    diamonds = sorted(100 * defined["published"]()["difference"])
    assert any(len(xy) == 3 and sorted(xy[:, 0]) == pytest.approx(diamonds) for xy in offsets)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        f"{factor}, BCE from 0" for factor in (10, 50, 100)]
    plt.close(figure)
    text = defined["accuracies"](runs).data
    for gain in (0.01, 0.02, 0.04):
        assert f">{100 * (gain + np.mean(NOISE)):+.1f} [" in text
    assert ">52.88<" in text and text.count(">52.88<") == 1  # beside the accuracy on the test set alone
    assert "5 few-shot at imbalance 50" in text


def test_the_flow_of_the_figure_is_the_theorems():
    figure = defined["phases"]()
    left, right = ({line.get_linestyle() + line.get_color(): line.get_ydata() for line in ax.lines} for ax in figure.axes)
    assert all(np.allclose(each[:100], left["-#0072B2"][:100], rtol=0.05) for each in left.values())
    assert right["-#D55E00"][40] > 100 * right["--#D55E00"][40] and right[":#D55E00"].max() < 1
    plt.close(figure)
