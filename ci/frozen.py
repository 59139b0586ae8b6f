"""Compare before and after a change that must change no result: what the recorded runs show, and what the engine does.

.venv/bin/python ci/frozen.py findings             compares with lib/tests/frozen_findings.json (also a test)
.venv/bin/python ci/frozen.py findings --write     writes that file, from the runs that are recorded today
.venv/bin/python ci/frozen.py engine               prints a hash of each of some short trainings: compare them with
                                                   those of the version before, on one machine
"""

import argparse
import hashlib
import itertools
import json
import math
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "lib" / "tests" / "frozen_findings.json"
EXACT, CLOSE = 0.0, 1e-9  # relative difference: of one machine, and of another one's linear algebra


def findings(keys: set[str]) -> dict:
    """ "profile/claim" -> verdict, value, interval and the parts of the same kind, of every claim on these runs."""
    from bcebook import claims
    from bcebook.book.front import recorded
    from bcebook.chapters.recipes import PROFILES
    from bcebook.chapters.registry import rooms

    found = {}
    for room, profile in itertools.product(rooms().values(), PROFILES):
        runs = [run for run in recorded(room, profile) if run.config.key in keys]
        tested = [claim for claim in room.claims if not claim.theory]
        judged = claims.judge(tested, room.view(runs)) if runs else []
        found |= {f"{profile}/{each.name}": numbers(each.finding) for each in judged}
    return found


def numbers(finding) -> list:
    """[verdict, n, value, low, high, p, parts], nan and infinity as texts."""
    values = finding.value, finding.low, finding.high, finding.p
    plain = [value if math.isfinite(value) else str(value) for value in values]
    return [finding.verdict, finding.n, *plain, [numbers(part) for part in finding.parts]]


def differences(before, after, tolerance: float, where: str = "") -> list[str]:
    """A line for each number or verdict that is not the same."""
    if isinstance(before, dict):
        gone = [f"{name}: is gone" for name in before.keys() - after.keys()]
        return gone + [
            line
            for name in before.keys() & after.keys()
            for line in differences(before[name], after[name], tolerance, name)
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [line for a, b in zip(before, after, strict=True) for line in differences(a, b, tolerance, where)]
    numbers_both = isinstance(before, float) and isinstance(after, float)
    if numbers_both and math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance):
        return []
    return [] if before == after else [f"{where}: {before} -> {after}"]


def engine() -> dict[str, str]:
    """A training in words -> SHA-256 of its history, final figures and weights: two epochs of 512 images."""
    import torch

    from bcebook.runs.config import RunConfig
    from bcebook.training import datasets, loop

    torch.set_num_threads(1)
    found, digits = {}, datasets.load("digits")
    decays = (
        {"decay": "global", "weight_decay": 5e-4},
        {"decay": "decoupled", "lambda_w": 5e-4, "lambda_h": 5e-4, "lambda_b": 1e-3},
    )
    heads = ({}, {"head": "etf", "scale": 3.0}, {"head": "cosine", "scale": 8.0}, {"bias": "none"})
    extras = (
        {"model": "convnet"},
        {"model": "vit-mini"},
        {"precision": "bfloat16"},
        {"label_smoothing": 0.1},
        {"random_labels": True},
        {"imbalance_factor": 4, "train_size": None},
        {"keep_features": 20},
        {"frozen": True},
        {"schedule": "one-cycle"},
        {"bias_init_mean": 6.0, "weight_start": 2.0},
    )
    plain = [
        {"loss": loss, "optimizer": optimizer, "augmentation": augmentation} | decay | head
        for loss, optimizer, augmentation, decay, head in itertools.product(
            ("ce", "bce"), ("sgd", "adamw"), ("none", "da1", "da1+da2"), decays, heads
        )
        if not (head.get("bias") and decay.get("lambda_b"))
    ]
    varied = [
        {"loss": loss, "optimizer": "sgd", "augmentation": "none"} | decays[0] | extra
        for loss, extra in itertools.product(("ce", "bce"), extras)
    ]
    for settings in plain + varied:
        config = RunConfig(
            **({"dataset": "digits", "model": "mlp", "learning_rate": 0.01, "epochs": 2, "train_size": 512} | settings)
        )
        training = loop.Training(config, digits, torch.device("cpu"))
        while not training.done:
            training.step()
        sha = hashlib.sha256(repr((dict(training.history), training.final, training.scores)).encode())
        for name, value in training.model.state_dict().items():
            sha.update(name.encode() + value.contiguous().numpy().tobytes())
        found[config.describe()] = sha.hexdigest()[:16]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("findings", "engine"))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--close", action="store_true", help="up to rounding, for another machine")
    options = parser.parse_args()
    if options.what == "engine":
        print("\n".join(f"{digest}  {name}" for name, digest in engine().items()))
        return 0
    if options.write:
        keys = sorted(path.stem for path in (FILE.parents[2] / "data" / "recorded").glob("*.json"))
        FILE.write_text(json.dumps({"keys": keys, "findings": findings(set(keys))}, indent=0) + "\n", encoding="utf-8")
        return 0
    before = json.loads(FILE.read_text(encoding="utf-8"))
    lines = differences(before["findings"], findings(set(before["keys"])), CLOSE if options.close else EXACT)
    same = f"{len(before['findings'])} findings are the same" + ("" if options.close else ", bit for bit")
    print("\n".join(lines) or same)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
