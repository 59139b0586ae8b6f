"""What the file of a run, and the record of a failure, may hold: pydantic models, strict, and no name beside theirs.

They only check: what the rest of the code works with is `runs.files.Run`, built from the same values. In a module of
its own because importing pydantic takes a tenth of a second, which a command without runs need not wait for.
"""

import base64
import datetime
import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError
from pydantic import model_validator as check

from bcebook.runs.config import RunConfig

# What every engine so far has measured; later ones add to it.
EVERY_EPOCH = """
    epoch learning_rate train_loss bias_mean bias_std bias_min bias_max
    test_accuracy test_uniform_accuracy test_uniform_threshold
    train_accuracy train_uniform_accuracy train_uniform_threshold
    nc1 nc2 nc2_means nc3 positive_median negative_median
"""
OF_A_SPLIT = "accuracy uniform_accuracy uniform_threshold nc1 nc2 nc2_means nc3 compactness distinctiveness"
HISTORY = tuple(EVERY_EPOCH.split())
FINAL = tuple(f"{split}_{name}" for split in ("train", "test") for name in OF_A_SPLIT.split())
BEST = (
    *(f"test_{name}{of}" for name in ("accuracy", "uniform_accuracy") for of in ("", "_epoch")),
    "test_uniform_accuracy_there",
)
LEVELS = 11  # quantiles of a summary; summaries.QUANTILES has them, but imports NumPy
MOST = 2**53 - 1  # up to here every whole number is a float too


def named(*needed: str):
    """A check of named values, or lists of them: these names are there, and accuracies are fractions."""

    def checked(values: dict) -> dict:
        if lacking := [name for name in needed if name not in values]:
            raise ValueError(f"it lacks {', '.join(lacking)}.")
        for name, found in values.items():
            if name.endswith("accuracy") and any(
                x is not None and not 0 <= x <= 1 for x in (found if isinstance(found, list) else [found])
            ):
                raise ValueError(f"its {name} is no fraction.")
        return values

    return AfterValidator(checked)


def iso(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


def real(value: float) -> float:
    if type(value) is not float:  # pydantic takes a whole number for one, however large
        raise ValueError("it must be a number with a point or an exponent.")
    return value


Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=-1e300, le=1e300)]
Real = Annotated[Number, BeforeValidator(real)]
Figure = Number | None  # null stands for nan
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Config = Annotated[InstanceOf[RunConfig], BeforeValidator(RunConfig.from_dict)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Environment(Strict):
    device: Text
    code: Text
    date: Annotated[Text, AfterValidator(iso)]
    versions: dict[str, Text]
    seconds: Annotated[Number, Field(ge=0)]
    # An earlier engine did not say these.
    device_type: Text = ""
    precision: Text = ""
    resumed: Count = 0
    engine: Text = ""


class Summary(Strict):
    """A `summaries.ScoreSummary`, about one sample."""

    count: Count
    mean: Real
    std: Annotated[Real, Field(ge=0)]
    quantiles: Annotated[list[Real], Field(min_length=LEVELS, max_length=LEVELS)]
    bin_width: Annotated[Real, Field(gt=0)]
    first_bin: Annotated[int, Field(ge=-MOST, le=MOST)]
    counts: list[Count]

    @check(mode="after")
    def _is_one_sample(self):
        low, high, first, width = self.quantiles[0], self.quantiles[-1], self.first_bin, self.bin_width
        rounding = 1e-9 * max(abs(low), abs(high))
        if not (
            self.quantiles == sorted(self.quantiles)
            and low - rounding <= self.mean <= high + rounding
            and 0 < sum(self.counts) == self.count
            and (first - 1) * width <= low
            and high <= (first + len(self.counts) + 1) * width
        ):
            raise ValueError("it is no summary of a sample.")
        return self


class Scores(Strict):
    positive: Summary
    negative: Summary
    bias: Summary


class Splits(Strict):
    train: Scores
    test: Scores


class Features(Strict):
    labels: Annotated[list[Count], Field(min_length=1)]
    epochs: Annotated[list[Count], Field(min_length=1)]
    width: Count
    values: str

    @check(mode="after")
    def _have_the_size_that_they_say(self):
        if self.epochs != sorted(set(self.epochs)):
            raise ValueError("it does not have its epochs in order.")
        try:
            size = len(base64.b64decode(self.values, validate=True))
        except ValueError:
            raise ValueError("it has values that are not base64.") from None
        if size != 2 * len(self.epochs) * len(self.labels) * self.width:
            raise ValueError("it has more or fewer values than it says.")
        return self


class Measures(Strict):
    version: int
    code: str
    date: str
    seconds: Number
    images: dict[str, Count]
    numbers: Annotated[dict[str, Figure], named()]
    per_class: dict[str, list[Figure]]
    histograms: dict[str, Summary]
    reliability: dict[str, list[list[Figure]]]


class Stored(Strict):
    """Everything but the checksum."""

    config: Config
    environment: Environment
    history: Annotated[dict[str, list[Figure]], named(*HISTORY)]
    final: Annotated[dict[str, Figure], named(*FINAL)]
    best: Annotated[dict[str, Figure], named(*BEST)]
    scores: Splits
    features: Features | None = None
    measures: Measures | None = None

    @check(mode="after")
    def _is_the_finished_run_of_its_configuration(self):
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str:
        config, history, final, best = self.config, self.history, self.final, self.best
        rows = config.epochs + 1
        if len(history["epoch"]) != rows or history["epoch"] != list(range(rows)):
            return f"its history does not have the epochs 0 to {config.epochs}."
        if any(len(column) != rows for column in history.values()):
            return "its history has a column that is longer or shorter than the others."
        rates = zip(history["learning_rate"][1:], map(config.rate, range(1, rows)), strict=True)
        if not all(a is not None and math.isclose(a, b, rel_tol=1e-6) for a, b in rates):
            return "its learning rates are not those of its configuration."
        if None in history["train_loss"][1:]:
            return "its loss stopped being a number, so it is a failed run."
        if final["test_accuracy"] != history["test_accuracy"][-1] or final["train_nc1"] != history["nc1"][-1]:
            return "its final figures are not those of its last epoch."
        for name in ("test_accuracy", "test_uniform_accuracy"):
            at = best[f"{name}_epoch"]
            if at not in range(1, rows) or best[name] is None or best[name] != history[name][int(at)]:
                return "its best figures are not those of the epochs that they name."
        classes = self.scores.train.bias.count
        for split, scores in (("train", self.scores.train), ("test", self.scores.test)):
            if scores.bias.count != classes or scores.negative.count != (classes - 1) * scores.positive.count:
                return f"its {split} scores are not those of {classes} classes."
        kept, wanted = self.features, (config.keep_features, config.epochs)
        fits = (len(kept.labels), kept.epochs[-1]) == wanted and max(kept.labels) < classes if kept else not wanted[0]
        return "" if fits else "its features are not those that its configuration asks for."


class Code(Strict, extra="allow"):
    """The environment of a failure, which may come before the rest of it is known."""

    code: Text


class Failure(Strict):
    config: Config
    cause: Text
    environment: Code


def validate(model: type[Strict], values: dict, key: str) -> None:
    """Raises ValueError, one sentence, where these are no values of the model, or of another run than `key`'s."""
    try:
        found = model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {said}" if where else said) from None
    if found.config.key != key:
        raise ValueError("its name is not the key of its config.")
