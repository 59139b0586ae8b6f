"""A claim, what was found about it, and how both are carried to where they are shown."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from bcebook.science.verdicts import Finding

MIME = "application/vnd.bcebook.findings+json"  # under which the output of a notebook's cell carries its findings


@dataclass(frozen=True)
class Claim:
    """One sentence that can turn out wrong, and the test that decides.

    name: "chapter.what". text: the claim as it is made, one sentence without a full stop. source: whose it is and
    where ("the paper's bias figures", "ours"). statistic: what is computed, in words. judge: a list of runs ->
    Finding; for a claim of theory (theory=True) nothing -> Finding.
    """

    name: str
    text: str
    source: str
    statistic: str
    judge: Callable[..., Finding]
    theory: bool = False

    @property
    def of_the_paper(self) -> bool:
        """Whether the paper makes this claim; the others are ours."""
        return self.source.startswith("the paper")


@dataclass(frozen=True)
class Judged:
    """A claim with its finding: what pages, scoreboard and index are made of. Plain data, without the judge."""

    name: str
    text: str
    source: str
    statistic: str
    finding: Finding

    @property
    def of_the_paper(self) -> bool:
        return self.source.startswith("the paper")

    def to_dict(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "finding": self.finding.to_dict()
        }

    @classmethod
    def from_dict(cls, values: dict) -> "Judged":
        return cls(**(values | {"finding": Finding.from_dict(values["finding"])}))


def judge(claims: tuple[Claim, ...], runs: list | None = None) -> list[Judged]:
    """Each claim with what these runs say of it; runs=None: the claims of theory alone. A finding that does not name
    the runs it used gets the keys of all of them."""
    judged = []
    for claim in claims:
        if claim.theory:
            finding = claim.judge()
        elif runs is None:
            continue
        else:
            finding = claim.judge(runs)
            if finding.n and not finding.runs:
                finding = finding.but(runs=tuple(run.config.key for run in runs))
        judged.append(Judged(claim.name, claim.text, claim.source, claim.statistic, finding))
    return judged


def payload(chapter: str, profile: str, judged: list[Judged], runs: list = (), of: int = 0) -> dict:
    """What a findings file holds: the chapter, the profile, its runs (how many of how many, seeds, networks, seconds
    of training, and each in short), the judged claims."""
    return {
        "chapter": chapter,
        "profile": profile,
        "runs": len(runs),
        "of": of,
        "seeds": sorted({run.config.seed for run in runs}),
        "networks": [list(pair) for pair in dict.fromkeys((run.config.model, run.config.dataset) for run in runs)],
        "seconds": round(sum(run.environment.get("seconds", 0) for run in runs)),
        "list": [in_short(run) for run in runs],
        "claims": [each.to_dict() for each in judged],
    }


def in_short(run) -> dict:
    """One run as a line of a list: plain texts and numbers, None for what it does not have."""
    config, final, environment = run.config, run.final, run.environment
    figures = {name: final.get(of) for name, of in (("accuracy", "test_accuracy"), ("uniform", "test_uniform_accuracy"),
                                                    ("nc1", "train_nc1"))}
    figures = {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}
    return {"key": config.key, "model": config.model, "dataset": config.dataset, "loss": config.loss,
            "optimizer": config.optimizer, "settings": config.describe().partition(", ")[2], "seed": config.seed,
            "augmentation": config.augmentation, "start": config.bias_init_mean, **figures,
            "minutes": environment.get("seconds", 0) / 60, "device": environment.get("device", ""),
            "code": environment.get("code", "")}
