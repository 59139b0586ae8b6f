"""The self-test for a GPU, on a CPU and tiny: every check reports, by itself, and the file can be sent."""

import json

import pytest
import torch

from bcebook import cli
from bcebook.book import machine
from bcebook.runs.provenance import engine_version
from bcebook.training import loop, selftest

FIELDS = {"status": str, "why": str, "asks": str, "figures": dict, "seconds": float, "warnings": list}
FIGURES = {
    "step_is_the_cpus": {"loss", "expected_loss", "apart", "other_images"},
    "graph_is_eager": {"loss", "expected_loss", "apart", "other_random_numbers", "captured"},
    "step_time": {"graph_ms", "eager_ms", "ratio"}, "step_flops": {"gflop_a_step", "tflops"},
    "matrix_flops": {"tflops"},
    "whole_run": {"first_loss", "last_loss", "resumed_last_loss", "test_accuracy", "resumed"},
}


@pytest.fixture(scope="module")
def bench() -> selftest.Bench:
    return selftest.bench(torch.device("cpu"), "tiny")


def test_every_check_but_that_of_the_gpus_memory_passes_here_and_the_report_is_whole(bench):
    kept = []
    report = selftest.run(bench, lambda report: kept.append(json.dumps(report, allow_nan=False)))
    assert kept[-1] == json.dumps(report) and len(kept) == len(FIGURES) + 1 and json.loads(kept[0])["checks"] == {}
    assert report["format"] == 1 and report["engine"] == engine_version() and report["device_type"] == "cpu"
    assert set(report["versions"]) >= {"torch", "numpy"} and report["gpu"] == {} and "convnet/digits" in report["run"]
    assert {check.__name__ for check in selftest.CHECKS} - {"memory"} == set(report["checks"]) == set(FIGURES)
    for name, check in report["checks"].items():
        assert {field: type(value) for field, value in check.items()} == FIELDS
        assert (check["status"], check["why"], check["warnings"]) == ("pass", "", []), (name, check)
        assert set(check["figures"]) == FIGURES[name] and check["asks"].endswith(".")
    figures = report["checks"]["graph_is_eager"]["figures"]
    assert figures["apart"] == 0 < figures["other_random_numbers"]


def test_a_check_that_fails_or_breaks_hides_no_other(bench, monkeypatch):
    def breaks(bench):
        """Breaks."""
        torch.zeros(2) @ torch.zeros(3)

    def fails(bench):
        """Fails."""
        return False, {"nothing": float("nan"), "number": 1.0}

    def passes(bench):
        """Passes."""
        return True, {}

    monkeypatch.setattr(selftest, "CHECKS", (breaks, fails, passes))
    checks = selftest.run(bench)["checks"]
    assert [checks[name]["status"] for name in ("breaks", "fails", "passes")] == ["error", "fail", "pass"]
    assert "size" in checks["breaks"]["why"] and checks["fails"]["figures"] == {"nothing": None, "number": 1.0}
    checks = selftest.run(bench, seconds=-1)["checks"]
    assert [each["status"] for each in checks.values()] == ["error"] * 3
    assert "time was over" in checks["passes"]["why"]


def _frozen(self, *given, real=loop.Training._mini_batch):
    """As a captured step would do whose random numbers stand still."""
    if self.graphs is not False:
        self.images.generator.manual_seed(5)
    real(self, *given)


def test_a_graph_that_repeats_its_random_numbers_is_found(bench, monkeypatch):
    monkeypatch.setattr(selftest.Bench, "training", lambda self, real=selftest.Bench.training, **changes: _marked(
        real(self, **changes)))
    monkeypatch.setattr(loop.Training, "_mini_batch", _frozen)
    passed, figures = selftest.graph_is_eager(bench)
    assert not passed and figures["apart"] > figures["other_random_numbers"] / 2 and not figures["captured"]


def _marked(training: loop.Training) -> loop.Training:
    training.graphs = None  # neither captured nor, until the check says so, the plain one
    return training


def test_a_step_that_is_not_the_cpus_is_found(bench, monkeypatch):
    passed, figures = selftest.step_is_the_cpus(bench)
    assert passed and figures["apart"] == 0 < figures["other_images"] and figures["loss"] == figures["expected_loss"]
    calls = []

    def as_on_another_device(self, chosen, mixture, real=loop.Training._mini_batch):
        """The first of the three, ours, misses a sixteenth of the images."""
        calls.append(chosen)
        real(self, chosen[len(chosen) // 16:] if len(calls) == 1 else chosen, mixture)

    monkeypatch.setattr(loop.Training, "_mini_batch", as_on_another_device)
    passed, figures = selftest.step_is_the_cpus(bench)
    assert not passed and 0 < figures["apart"] < 1


def test_without_a_gpu_it_is_one_sentence(tmp_path, monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr("sys.argv", ["bcebook", "doctor", "--gpu", "--out", str(tmp_path / "a.json")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "bcebook: --gpu tests a CUDA GPU, and PyTorch finds none here.\n")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_file_and_says_what_did_not_pass(bench, tmp_path, monkeypatch, capsys):
    def breaks(bench):
        """Breaks."""
        raise RuntimeError("CUDA error: no")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(selftest, "bench", lambda device: bench)
    monkeypatch.setattr(selftest, "CHECKS", (selftest.matrix_flops, breaks))
    assert machine.test_gpu(tmp_path / "a.json", print) == 1
    found = json.loads((tmp_path / "a.json").read_text())["checks"]
    assert [each["status"] for each in found.values()] == ["pass", "error"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("pass   matrix_flops: tflops") and said[1] == "error  breaks: CUDA error: no"
    assert str(tmp_path / "a.json") in said[2]
    with pytest.raises(ValueError, match="name a file in a folder that is there"):
        machine.test_gpu(tmp_path / "b" / "a.json", print)
