"""What the runs of a profile cost, in operations that are counted, not timed, and what GPUs have reached."""

import json

from bcebook.chapters import catalog
from bcebook.paths import gpu_reports
from bcebook.report import markdown
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS, NETWORKS

# Of one training image, forwards and backwards, in GFLOP (10^9 multiplications and additions), as torch's counter of
# operations has it; a test counts them again.
GFLOP = {"resnet18": 3.328997376, "resnet50": 7.783440384, "densenet121": 0.337311744, "vit": 4.498074624,
         "swin": 3.169760256}
RATE = 1e14  # floating-point operations a second that a GPU is taken to reach: a tenth of what an H100 can do at most
GPUS = 16


def images(config: RunConfig) -> int:
    """Training images that a run sees, over all epochs."""
    spec = DATASETS[config.dataset]
    if config.imbalance_factor is None:
        return config.epochs * (config.train_size or spec.train_count)
    from bcebook.training.datasets import long_tailed_sizes

    largest = (config.train_size or spec.train_count) // spec.num_classes
    return config.epochs * int(long_tailed_sizes(largest, spec.num_classes, config.imbalance_factor).sum())


def table(profile: str = "paper") -> str:
    """Markdown: a row for each network whose runs travel, and their sum; steps alone, without the measurements."""
    rows, totals = [], [0, 0.0]
    for model, gflop in GFLOP.items():
        runs = [config for config in catalog.all_configs(profile) if config.model == model]
        seen = sum(map(images, runs))
        hours = 1e9 * gflop * seen / RATE / 3600
        totals = [totals[0] + len(runs), totals[1] + hours]
        rows.append([NETWORKS[model].display, len(runs), f"{gflop:.2f}", f"{seen / 1e9:.2f}",
                     f"{1e9 * gflop * seen / 1e18:.2f}", f"{hours:.1f}", f"{hours / GPUS:.2f}"])
    rows.append(["all", totals[0], "", "", "", f"{totals[1]:.1f}", f"{totals[1] / GPUS:.2f}"])
    return markdown.table(["network", "runs", "GFLOP an image", "10⁹ images", "EFLOP", "hours on one GPU",
                           f"hours on {GPUS}"], rows)


def reached() -> str:
    """Markdown: a row for each GPU whose self-test came back (`training/selftest`). Milliseconds of a step of ResNet18
    on 128 images, replayed and not; what a step and a large matrix product reach."""
    rows = []
    for path in gpu_reports():
        report = json.loads(path.read_text(encoding="utf-8"))
        checks = report["checks"]
        figures = {name: check["figures"] for name, check in checks.items()}
        passed = sum(check["status"] == "pass" for check in checks.values())
        step, product = figures["step_flops"]["tflops"], figures["matrix_flops"]["tflops"]
        rows.append([report["gpu"]["name"], report["versions"]["torch"], f"{passed} of {len(checks)}",
                     f"{figures['step_time']['graph_ms']:.1f}", f"{figures['step_time']['eager_ms']:.1f}",
                     f"{step:.0f} of {product:.0f}"])
    return markdown.table(["GPU", "PyTorch", "checks passed", "ms a step", "not replayed",
                           "10¹² operations a second"], rows)
