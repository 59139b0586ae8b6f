"""What the page "More machines" says: counted operations, and files that the programs which read them take."""

import json
import re
import subprocess

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bcebook import cli
from bcebook.book import costs, pages
from bcebook.chapters import catalog
from bcebook.paths import REPOSITORY, gpu_reports
from bcebook.runs.specs import NETWORKS, STREAMED
from bcebook.training import models
from bcebook.training.datasets import Dataset


@pytest.mark.parametrize("name", costs.GFLOP)
def test_the_operations_of_a_step_are_those_that_torch_counts(name):
    torch.manual_seed(0)
    network, side = models.build(name, 10, 3), NETWORKS[name].side
    with FlopCounterMode(display=False) as counter:
        logits, _ = network(torch.zeros(2, 3, side, side))
        logits.sum().backward()
    assert counter.get_total_flops() / 2 / 1e9 == pytest.approx(costs.GFLOP[name], rel=1e-9)


def test_every_network_whose_images_travel_is_in_the_table_and_its_sum_is_right():
    runs = [config for config in catalog.all_configs("paper") if config.dataset not in STREAMED and NETWORKS[config.model].side == 32]
    assert {config.model for config in runs} == set(costs.GFLOP)
    rows = [re.split(r" *\| *", line)[1:-1] for line in costs.table().splitlines()[2:]]
    assert int(rows[-1][1]) == len(runs) == sum(int(row[1]) for row in rows[:-1])
    hours = sum(costs.GFLOP[config.model] * 1e9 * costs.images(config) for config in runs) / costs.RATE / 3600
    assert float(rows[-1][5]) == pytest.approx(hours, abs=0.06)


def test_a_gpus_row_says_what_its_report_says():
    reports = [json.loads(path.read_text()) for path in gpu_reports()]
    rows = [re.split(r" *\| *", line)[1:-1] for line in costs.reached().splitlines()[2:]]
    assert [row[0] for row in rows] == [report["gpu"]["name"] for report in reports] and rows
    for row, report in zip(rows, reports, strict=True):
        figures = {name: check["figures"] for name, check in report["checks"].items()}
        seconds = figures["step_flops"]["gflop_a_step"] / 1e3 / float(row[5].split(" of ")[0])
        assert 1000 * seconds == pytest.approx(float(row[3]), rel=0.05)  # the two were timed apart
        assert float(row[4]) == pytest.approx(figures["step_time"]["eager_ms"], abs=0.05)


def test_the_images_of_a_run_are_those_it_is_given(small):
    whole = Dataset("cifar100", *(np.zeros((50_000, 1), np.uint8), np.arange(50_000) % 100) * 2, tuple(map(str, range(100))))
    config = next(config for config in catalog.all_configs("paper") if config.imbalance_factor == 50)
    drawn = whole.subset(config.train_size, config.imbalance_factor)
    assert costs.images(config) == config.epochs * len(drawn.y_train)


def test_the_job_is_taken_by_who_reads_it():
    assert subprocess.run(["bash", "-n", REPOSITORY / "ci" / "ray.sbatch"]).returncode == 0
    assert "#SBATCH --nodes" in pages.listing("ray.sbatch", "bash")


def test_the_commands_of_the_page_are_the_command_lines_own(monkeypatch, capsys):
    text = (REPOSITORY / "book" / "more_machines.md").read_text()
    commands = re.findall(r"bcebook (train|record|build) +([^\n`]*--on[^\n`]*)", text)
    assert len(commands) >= 4
    for command, options in commands:
        monkeypatch.setattr("sys.argv", ["bcebook", command, "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        told = capsys.readouterr().out
        assert all(option in told for option in re.findall(r"--[a-z]+", options)), (command, options)
