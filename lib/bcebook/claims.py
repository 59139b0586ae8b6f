"""A claim, what was found about it, and how both are carried to where they are shown."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bcebook.runs.config import RunConfig
from bcebook.science.verdicts import Finding, limited

MIME = "application/vnd.bcebook.findings+json"  # under which the output of a notebook's cell carries its findings


@dataclass(frozen=True)
class Claim:
    """One sentence that can turn out wrong, and the test that decides.

    name: "chapter.what". text: the claim as it is made, one sentence without a full stop. source: whose it is and
    where ("the paper's bias figures", "ours"). statistic: what is computed, in words. judge: runs -> Finding, runs
    being a `frame.of` in a chapter that is a script, and a list of runs in the others; for a claim of theory
    (theory=True) nothing -> Finding. compares: which runs the claim compares, by their settings alone, so that the same
    function counts the planned runs; None: all. In a script it takes such a frame and gives some of its rows; in the
    others it takes a RunConfig and gives a truth value. end: whether the claim is about the end of training, and so
    judged on runs that have levelled off. front: its place on the landing page (0: none), where `effect` says what its
    estimate measures ("uniform accuracy, BCE − CE").
    """

    name: str
    text: str
    source: str
    statistic: str
    judge: Callable[..., Finding]
    theory: bool = False
    compares: Callable | None = None
    end: bool = False
    front: int = 0
    effect: str = ""

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


def judge(claims: Iterable[Claim], runs=None, planned: Sequence[RunConfig] | None = None) -> list[Judged]:
    """Each claim with what these runs (a list, or a `frame.of`) say of it; runs=None: the claims of theory alone.

    A finding that does not name the runs it used gets the keys of all that were compared. planned: the runs that the
    chapter plans in this profile; with them each verdict goes as far as its evidence reaches (`verdicts.limited`), and
    without them it is what the claim's rule says.
    """
    judged = []
    for claim in claims:
        if claim.theory:
            finding = claim.judge()
        elif runs is None:
            continue
        else:
            finding = _experiment(claim, runs, planned)
        judged.append(Judged(claim.name, claim.text, claim.source, claim.statistic, finding))
    return judged


def _experiment(claim: Claim, runs, planned: Sequence[RunConfig] | None) -> Finding:
    """What runs say of a claim that is no theory; see `judge`."""
    chosen, seeds, expected = (_of_list if isinstance(runs, list) else _of_frame)(claim, runs, planned or ())
    settled = None
    if claim.end and planned is not None:
        still, settled = chosen, _settled(chosen)
        chosen, settled = (settled if len(settled) else still), len(settled)
    finding = claim.judge(chosen)
    if not finding.runs:
        keys = [run.config.key for run in chosen] if isinstance(chosen, list) else chosen.index
        finding = finding.but(runs=tuple(dict.fromkeys(keys)))
    if planned is None:
        return finding if finding.n else finding.but(runs=())
    return limited(finding, len({seeds[key] for key in finding.runs if key in seeds}), len(seeds), expected, settled)


def _of_list(claim: Claim, runs: list, planned: Sequence[RunConfig]) -> tuple[list, dict[str, int], int]:
    """The runs that a claim compares, the seed of each by its key, and how many it plans."""
    compares = claim.compares or (lambda config: True)
    chosen = [run for run in runs if compares(run.config)]
    return chosen, {run.config.key: run.config.seed for run in chosen}, sum(map(bool, map(compares, planned)))


def _of_frame(claim: Claim, runs, planned: Sequence[RunConfig]) -> tuple:
    """As `_of_list`, of a `frame.of`."""
    from bcebook import frame  # pandas: a claim is declared without it

    compares = claim.compares or (lambda rows: rows)
    chosen, wanted = compares(runs), compares(frame.settings(planned)) if planned else ()
    seeds = dict(zip(chosen.index, chosen["seed"], strict=True))
    return chosen, seeds, len(set(wanted.index)) if len(wanted) else 0


def _settled(runs):
    """Those of a list or a `frame.of` that have levelled off."""
    from bcebook import frame

    if isinstance(runs, list):
        return [run for run in runs if frame.levelled_off(run)]
    return runs[runs["settled"].astype(bool)]


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
    figures = {
        name: final.get(of)
        for name, of in (("accuracy", "test_accuracy"), ("uniform", "test_uniform_accuracy"), ("nc1", "train_nc1"))
    }
    figures = {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}
    return {
        "key": config.key,
        "model": config.model,
        "dataset": config.dataset,
        "loss": config.loss,
        "optimizer": config.optimizer,
        "settings": config.describe().partition(", ")[2],
        "seed": config.seed,
        "augmentation": config.augmentation,
        "start": config.bias_init_mean,
        **figures,
        "minutes": environment.get("seconds", 0) / 60,
        "device": environment.get("device", ""),
        "code": environment.get("code", ""),
    }
