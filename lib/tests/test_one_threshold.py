"""What uniform accuracy measures: networks with a planted cause lose it on the rung that is named after it, and every
verdict from its cause."""

import math

import matplotlib.pyplot as plt
import pytest
import torch

from bcebook.chapters import catalog
from bcebook.chapters import one_threshold as room
from bcebook.report import claims, markdown
from bcebook.runs.store import Run
from bcebook.science import uniform

K = 5


def final_of(features, weight, bias, labels) -> dict:
    """The final figures of a network that has these features, rows and biases; its training set is its test set."""
    logits = features @ weight.T - bias
    share, threshold = uniform.uniform_accuracy(logits, labels)
    scales = uniform.uniform_accuracy_scales(features, labels, weight, bias)
    return {"test_accuracy": uniform.accuracy(logits, labels), "test_uniform_accuracy": share,
            "test_served_by_train_threshold": uniform.served_share(logits, labels, threshold)} | {
        f"test_uniform_accuracy_{name}": value for name, value in scales.items()}


@pytest.fixture
def collapsed():
    """Features at the rows of an orthogonal frame, labels, rows: nothing is lost to one threshold."""
    torch.manual_seed(0)
    labels = torch.arange(K).repeat(40)
    return torch.eye(K, dtype=torch.float64)[labels], labels, torch.eye(K, dtype=torch.float64)


def parts(*network) -> dict:
    features, weight, bias, labels = network
    return room.parts(Run(None, {}, final_of(features, weight, bias, labels), {}, {}, {}))


def test_a_planted_cause_is_found_on_its_own_rung(collapsed):
    features, labels, weight = collapsed
    none = torch.zeros(K, dtype=torch.float64)
    assert parts(features, weight, none, labels) == pytest.approx(
        {"total": 0, "bias": 0, "length": 0, "direction": 0, "rest": 0, "transfer": 0})
    lengths = torch.linspace(1, 9, len(labels), dtype=torch.float64)[:, None]
    blurred = features + 0.3  # others are not at zero, so that long features lift them over the threshold
    found = parts(blurred * lengths, weight, none, labels)
    assert found["length"] == pytest.approx(found["total"]) and found["total"] > 0.1
    # a bias that costs accuracy: without it more samples are served than are classified correctly with it
    found = parts(3 * features, weight, torch.tensor([0.0, 0, 0, 0, 4.5]).double(), labels)
    assert found["total"] == pytest.approx(0) and found["bias"] == pytest.approx(0.2)
    assert found["direction"] == pytest.approx(-0.2) and found["rest"] == pytest.approx(0)
    # one length, other directions: half of the samples lean towards a second class
    leaning = features.clone()
    leaning[::2] += 0.9 * torch.roll(features[::2], 1, dims=1)
    leaning[1::2] += 0.2
    unit = leaning / leaning.norm(dim=1, keepdim=True)
    found = parts(unit * 6, weight, none, labels)
    assert found["length"] == pytest.approx(0) and found["bias"] == pytest.approx(0)


def test_the_steps_add_up_for_any_network():
    torch.manual_seed(1)
    for _ in range(20):
        labels = torch.randint(K, (60,))
        features = torch.randn(60, 7, dtype=torch.float64) * torch.rand(60, 1, dtype=torch.float64) * 5
        found = parts(features, torch.randn(K, 7, dtype=torch.float64), torch.randn(K, dtype=torch.float64), labels)
        assert sum(found[name] for name in room.STEPS) == pytest.approx(found["total"])
        assert found["transfer"] == pytest.approx(0, abs=1e-12)  # the same set


def planted(change) -> list[Run]:
    """The quick runs; change(loss) -> figures of the test set that differ from a network that loses nothing."""
    runs = []
    for config in catalog.configs("one_threshold", "quick"):
        wobble = 0.001 * math.cos(2.5 * config.seed + (config.loss == "bce"))
        values = {name: 0.95 for name in [*room.LADDER, room.CENTRED, "served_by_train_threshold"]}
        values |= change(config.loss)
        final = {f"test_{name}": value + wobble * (name == "uniform_accuracy") for name, value in values.items()}
        runs.append(Run(config, {}, final, {}, {}, {}))
    return runs


def verdicts(runs) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in claims.judge(room.ROOM.claims, runs)}


def length_alone(loss) -> dict:
    """CE loses ten points, all of them to length."""
    lost = {"uniform_accuracy": 0.85, "uniform_accuracy_no_bias": 0.85, room.CENTRED: 0.85,
            "served_by_train_threshold": 0.85}
    return lost if loss == "ce" else {}


def test_each_verdict_follows_from_its_cause():
    found = verdicts(planted(length_alone))
    assert found == {"on_unit": "undecided", "on_probabilities": "undecided", "mostly_length": "supported",
                     "no_shift": "supported", "transfers": "supported"}
    finding = room.on_unit(planted(length_alone))
    assert finding.control.verdict == "supported"  # on the logits BCE is ahead

    def directions(loss) -> dict:
        return {name: 0.85 + 0.0001 * i for i, name in enumerate(
            [*room.LADDER][:-1])} | {room.CENTRED: 0.9, "served_by_train_threshold": 0.8} if loss == "ce" else {
            "uniform_accuracy_unit": 0.951}

    def moved(run) -> Run:
        """A spread over the seeds, without which there is no interval."""
        shift = 0.002 * math.cos(3.1 * run.config.seed + (run.config.loss == "ce"))
        return Run(run.config, {}, {k: v + shift * ("accuracy_" in k) for k, v in run.final.items()}, {}, {}, {})

    found = verdicts([moved(run) for run in planted(directions)])
    assert found == {"on_unit": "supported", "on_probabilities": "supported", "mostly_length": "contradicted",
                     "no_shift": "contradicted", "transfers": "contradicted"}
    assert set(verdicts([]).values()) == {"not run"}


def test_a_run_of_an_earlier_engine_is_left_out(eight):
    lacking = [run for run in eight if f"test_{room.CENTRED}" not in run.final]
    assert not room.groups(lacking) and set(verdicts(lacking).values()) == {"not run"}


def test_the_views_stand_parts_of_their_runs():
    every = planted(length_alone)
    for part in (every, every[:1], [r for r in every if r.config.loss == "ce"], every[::3], []):
        text = "".join(table(part).markdown() for table in room.ROOM.tables)
        assert "nan" not in text + markdown.findings(claims.judge(room.ROOM.claims, part))
        plt.close(room.ladder(part))
