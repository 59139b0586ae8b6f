"""The chapter on the classifier bias: its verdicts on planted runs and on the recorded ones."""

import dataclasses
import re

import matplotlib.pyplot as plt
import pytest
import torch

from bcebook import claims, frame
from bcebook.book import render
from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY
from bcebook.report import frames, markdown, sweeps
from bcebook.runs.store import Run, open_store
from bcebook.science.summaries import score_summary

chapter = rooms()["initial_bias"]
IMAGES = 1280  # ten batches an epoch
FIRST = ("ce_stays", "ce_mean", "bce_between", "bce_forgets")
DECAY = tuple(f"decay_{name}" for name in (
    "ce_goes_down", "ce_scores_stay", "bce_between", "ce_mean", "ce_predicted", "adamw_reach"))


def planted(config, end: float, positive: float = 9.0, negative: float = -1.0, single: float = 0.0) -> Run:
    """A run whose biases all go from the initial mean to end, with these medians of scores; single: how much further
    one of them goes down, and another one up."""
    start, kinds = config.bias_init_mean, {"positive": positive, "negative": negative, "bias": end}
    scores = {kind: score_summary(torch.full((10 if kind == "bias" else IMAGES,), float(value))).to_dict()
              for kind, value in kinds.items()}
    history = {"epoch": [0.0, 1.0], "bias_mean": [start, end], "bias_min": [start, end - single],
               "bias_max": [start, end + single], "train_loss": [1.0] * (config.epochs + 1)}
    return Run(config, history, {}, {}, {"train": scores, "test": scores}, {})


def as_claimed(config) -> Run:
    """What the paper claims: CE's bias follows the decay alone, BCE's lies between scores that follow it."""
    still = planted(config, config.bias_init_mean)
    if not config.lambda_b:
        return still if config.loss == "ce" else planted(config, 5.0 + 0.01 * config.bias_init_mean)
    if config.optimizer == "adamw":
        bias = 10 - frames.rates_sum(still) * config.lambda_b / (config.lambda_b + 1e-3)
    else:
        bias = frames.ce_bias_by_steps(still) if config.loss == "ce" else 5 / (1 + 100 * config.lambda_b)
    return planted(config, bias, 6.0) if config.loss == "ce" else planted(config, bias, bias + 4, bias - 6)


@pytest.fixture(scope="module")
def good():
    """The laptop's MNIST, both sweeps, as claimed; sixty epochs."""
    configs = [config for config in chapter.configs("laptop") if config.dataset == "mnist"]
    return [as_claimed(dataclasses.replace(config, epochs=60)) for config in configs]


def judged(runs) -> dict:
    return {each.name.removeprefix("initial_bias."): each.finding for each in claims.judge(chapter.claims, frame.of(runs))}


def verdicts(runs, names=(*FIRST, *DECAY)) -> list[str]:
    return [judged(runs)[name].verdict for name in names]


def changed(runs, change, **settings):
    """These runs with change(run) in place of those that have the settings."""
    return [change(run) if all(getattr(run.config, name) == value for name, value in settings.items()) else run
            for run in runs]


def test_as_claimed_every_claim_is_supported_or_proved(good):
    found = judged(good)
    assert {name for name, finding in found.items() if finding.verdict == "proved"} == {"ce_mean", "decay_ce_mean"}
    assert {finding.verdict for finding in found.values()} == {"supported", "proved"} and set(found) == {*FIRST, *DECAY}
    assert all(claim.name.startswith("initial_bias.") for claim in chapter.claims)


def test_each_verdict_on_the_starts_follows_from_its_cause(good):
    begun = [run for run in good if not run.config.lambda_b]
    supported = ["supported", "proved", "supported", "supported"]
    assert verdicts(begun, FIRST) == supported and set(verdicts(begun, DECAY)) == {"not run", "open"}
    # One class up, another down: the mean hides it. The smallest that moves towards the others counts as well.
    for single in (0.3, -0.3):
        apart = changed(begun, lambda r, s=single: planted(r.config, r.config.bias_init_mean, single=s), loss="ce")
        assert verdicts(apart, FIRST) == ["contradicted", *supported[1:]]
        assert judged(apart)["ce_stays"].value == pytest.approx(0.3)
    moved = changed(begun, lambda r: planted(r.config, r.config.bias_init_mean + 1), loss="ce")
    assert verdicts(moved, FIRST) == ["contradicted", "refuted", *supported[2:]]
    only_adamw = changed(begun, lambda r: planted(r.config, r.config.bias_init_mean + 1), loss="ce", optimizer="adamw")
    assert verdicts(only_adamw, FIRST)[1] == "proved"  # the identity is SGD's
    kept = changed(begun, lambda r: planted(r.config, 4 + 0.4 * r.config.bias_init_mean), loss="bce")
    assert verdicts(kept, FIRST) == [*supported[:3], "contradicted"]
    assert judged(kept)["bce_forgets"].value == pytest.approx(4)
    outside = changed(begun, lambda r: planted(r.config, -3.0), loss="bce", bias_init_mean=0.0)
    assert verdicts(outside, FIRST) == [*supported[:2], "contradicted", "contradicted"]
    assert verdicts([run for run in begun if run.config.loss == "ce"], FIRST) == [*supported[:2], "not run", "not run"]
    assert verdicts(begun[:1], FIRST)[3] == "not run"  # one start says nothing about others
    control = judged(begun)["bce_between"].control  # CE's bias between the scores: only where it was put there
    assert (control.verdict, control.detail) == ("contradicted", "6 of 8 runs")


def test_each_verdict_on_the_decays_follows_from_its_cause(good):
    decayed = [run for run in good if run.config.lambda_b]

    def wrong(change, **settings) -> set[str]:
        found = judged(changed(decayed, change, **settings))
        return {name for name in DECAY if found[name].verdict in ("contradicted", "refuted")}

    assert wrong(lambda r: r) == set() == {name for name in FIRST if judged(decayed)[name].n}
    stuck = wrong(lambda r: planted(r.config, 10.0, 6.0), loss="ce")
    assert stuck == {"decay_ce_goes_down", "decay_ce_mean", "decay_ce_predicted"}
    assert "decay_ce_goes_down" in wrong(lambda r: planted(r.config, 10 - 1e-7 / r.config.lambda_b, 6.0), loss="ce")
    end = lambda run: run.history["bias_mean"][-1]  # noqa: E731
    # One class stays up under the strongest decay, and the mean does not say it.
    assert wrong(lambda r: planted(r.config, end(r), 6.0, single=9.0), loss="ce", lambda_b=0.5) == {"decay_ce_goes_down"}
    assert wrong(lambda r: planted(r.config, end(r), 6 + r.config.lambda_b), loss="ce") == {"decay_ce_scores_stay"}
    assert wrong(lambda r: planted(r.config, 9.9, 10.5, 9.95), loss="bce", lambda_b=0.5) == {"decay_bce_between"}
    assert "decay_adamw_reach" in wrong(lambda r: planted(r.config, 10 - 1.2 * frames.rates_sum(r), 20.0))
    found = judged(decayed)
    assert found["decay_ce_goes_down"].control.verdict == "supported"  # BCE's go down too: what differs is the scores
    assert {found[f"decay_{name}"].control.verdict for name in ("ce_scores_stay", "bce_between", "ce_predicted")} == {
        "contradicted"}
    one = judged([run for run in decayed if run.config.lambda_b == 0.05])
    assert one["decay_ce_goes_down"].verdict == one["decay_ce_scores_stay"].verdict == "not run"  # nothing to compare


def test_ce_bias_by_steps_is_the_optimizer_itself(good):
    """PyTorch's SGD on lambda_b/2 b^2 alone, with a run's own rates; the exponential is near it for small steps."""
    run = next(r for r in good if (r.config.loss, r.config.optimizer, r.config.lambda_b) == ("ce", "sgd", 5e-3))
    run = planted(dataclasses.replace(run.config, epochs=20), 0.0)
    bias = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([bias], lr=1.0, momentum=0.9)
    for epoch in range(1, 21):
        optimizer.param_groups[0]["lr"] = run.config.rate(epoch)
        for _ in range(IMAGES // 128):
            optimizer.zero_grad()
            (run.config.lambda_b / 2 * bias**2).backward()
            optimizer.step()
    assert frames.ce_bias_by_steps(run) == pytest.approx(bias.item(), rel=1e-12)
    weak = planted(dataclasses.replace(run.config, lambda_b=5e-6, epochs=60), 0.0)
    assert frames.ce_bias_by_steps(weak) == pytest.approx(frames.ce_bias_under_decay(weak), abs=1e-3)
    assert abs(frames.ce_bias_by_steps(weak) - 10) > 1e-3  # it is not that nothing happens


def rows(table) -> list[list[str]]:
    """The cells of a styled table."""
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table.data, re.S)[1:]]


def test_the_tables_show_the_planted_numbers_beside_the_papers(good):
    kept = changed(good, lambda r: planted(r.config, 4 + 0.4 * r.config.bias_init_mean), loss="bce", lambda_b=0.0)
    ends = {row[0]: row[1:] for row in rows(chapter.definitions["ends"](frame.of(kept)))}
    assert ends["BCE, SGD"] == ["9.00 to 9.00 (9.39)", "4.00 to 8.00 (5.28)", "−1.00 to −1.00 (−1.04)", "0.40",
                                "0.00, 0.06, 0.41"]
    assert ends["CE, SGD"][1] == "0.00 to 10.00 (–)" and ends["CE, AdamW"][3:] == ["1.00", "1.00, 1.00, –"]
    higher = [planted(dataclasses.replace(r.config, seed=1), r.history["bias_mean"][-1] + 0.5) for r in good]
    shown = rows(chapter.definitions["medians"](frame.of(good + higher)))  # seeds are averaged
    found = {tuple(row[:2]): row[2:] for row in shown}
    assert len(found) == len(shown) == 24 and list(found)[:2] == [("BCE, SGD", "0.5"), ("BCE, SGD", "0.05")]
    assert found["BCE, SGD", "0.05"][0] == markdown.number(5 / 6 + 0.25)
    assert found["BCE, SGD", "0.0005"][1] == "3.58" and found["CE, SGD", "0.5"][1] == "0.00"
    assert found["CE, AdamW", "0.5"][1] == "–" and found["CE, SGD", "0.0005"][-1] == "4.10"  # off the paper's figure


def test_the_views_stand_a_part_of_the_runs(good):
    cifar = [dataclasses.replace(r, config=dataclasses.replace(r.config, dataset="cifar10")) for r in good[:7]]
    for part in (good, good + cifar, good[:1], good[-1:], good[::3], [r for r in good if r.config.loss == "ce"]):
        runs, text = frame.of(part), ""
        for view in (*chapter.figures, chapter.definitions["result"]):
            shown = view(runs)
            text += "" if isinstance(shown, plt.Figure) else shown.data
            plt.close("all")
        text += markdown.findings(claims.judge(chapter.claims, runs))
        assert "nan" not in text and ("ResNet8 on CIFAR10, " in text) == (len(part) > len(good))


def test_the_recorded_sweeps_say_what_their_files_say():
    """Recomputed from the histories alone, without the library's summaries."""
    store = open_store(REPOSITORY / "data")
    runs = [run for config in chapter.configs("laptop") if (run := store.find(config))]
    assert len(runs) == 56
    for run in runs:
        config, end = run.config, run.history["bias_mean"][-1]
        if (config.loss, config.optimizer) == ("ce", "sgd"):
            assert abs(end - frames.ce_bias_under_decay(run)) < 0.01 + 0.05 * end, config.describe()
            assert abs(end - frames.ce_bias_by_steps(run)) < 1e-4  # nothing else moves the mean, but rounding
        if config.optimizer == "adamw":
            assert abs(end - run.history["bias_mean"][0]) < 1.1 * frames.rates_sum(run)
    found = judged(runs)
    begun = [run.history for run in runs if run.config.loss == "ce" and not run.config.lambda_b]
    assert found["ce_stays"].value == max(abs(h[name][-1] - h[name][0]) for h in begun for name in ("bias_min", "bias_max"))
    assert 0.4 < found["ce_stays"].value < 0.6 and 7 < found["bce_forgets"].value < 8
    assert verdicts(runs) == ["contradicted", "proved", "supported", "contradicted", "supported", "supported",
                              "supported", "proved", "supported", "supported"]
    assert found["decay_ce_predicted"].control.value > 1 > 0.02 > found["decay_ce_scores_stay"].value


def test_a_single_sweep_goes_down_or_not_by_its_ends():
    """`goes_down` on a table of plain numbers."""
    table = frame.pd.DataFrame({"network": "n", "loss": "ce", "optimizer": "sgd", "seed": 0,
                                "lambda_b": [0.5, 1e-3, 1e-5], "bias_end": [0.0, 4.0, 9.0]})
    assert sweeps.goes_down(table, "ce").detail.endswith("is 9.00") and sweeps.goes_down(table, "bce").n == 0
    assert sweeps.goes_down(table.assign(bias_end=[0.0, 9.0, 8.8]), "ce").verdict == "contradicted"


def test_the_former_page_leads_to_the_chapter(tmp_path):
    render._redirect(tmp_path)
    assert not list(tmp_path.iterdir())  # a book without the chapter
    (tmp_path / "initial_bias.html").touch()
    render._redirect(tmp_path)
    for old, new in render.REDIRECTS.items():
        assert old not in rooms() and new in rooms()
        assert f'content="0; url={new}.html"' in (tmp_path / f"{old}.html").read_text()
    assert render.REDIRECTS["bias_decay"] == "initial_bias"
