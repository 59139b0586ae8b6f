"""The unconstrained-features model under one name: `closed_form` (balanced classes, free features), `nonnegative`
(those of a ReLU), `minimise` (any classes), `flow` and `classifier_flow` (on the way to the minimum), `relaxation`
(near it), and `equivalents` (which decay makes losses and their options equal)."""

from dataclasses import replace

from bcebook.science import closed_form, nonnegative
from bcebook.science.classifier_flow import classifier_flow, common_part
from bcebook.science.closed_form import (
    FEATURES,
    LOSSES,
    MAX_CLASSES,
    Minimum,
    effective_c,
    feature_cosine,
    minority_collapse_size,
    paper_bias,
    separates,
    simplex_etf,
)
from bcebook.science.equivalents import OVER_CLASSES, equivalent_decay, loss_factor, trivial_from
from bcebook.science.flow import BiasFlow, batch_noise, bias_flow, forgetting_time, resting_scores, speed
from bcebook.science.minimise import Solution, gradient, objective, solve
from bcebook.science.relaxation import RelaxationRates, collapse_flow, relaxation_rates

__all__ = [
    "BiasFlow",
    "FEATURES",
    "LOSSES",
    "MAX_CLASSES",
    "Minimum",
    "OVER_CLASSES",
    "RelaxationRates",
    "Solution",
    "assemble",
    "batch_noise",
    "bias_flow",
    "classifier_flow",
    "collapse_flow",
    "common_part",
    "critical_lambda_b",
    "effective_c",
    "equivalent_decay",
    "feature_cosine",
    "forgetting_time",
    "gradient",
    "loss_factor",
    "minimum",
    "minority_collapse_size",
    "objective",
    "paper_bias",
    "relaxation_rates",
    "resting_scores",
    "separates",
    "simplex_etf",
    "solve",
    "speed",
    "trivial_from",
]


def _of(features):
    return nonnegative if closed_form.known_features(features) == "nonnegative" else closed_form


def minimum(loss, num_classes, c, lambda_b=0.0, features="free", over_classes="sum", label_smoothing=0.0):
    """The global minimum for balanced classes as a Minimum: `closed_form.minimum`, or `nonnegative.minimum` for
    features "nonnegative", which has no label smoothing.

    over_classes "mean": BCE is averaged over the classes, as `BCEWithLogitsLoss` does by default. That is a factor 1/K
    on the loss, which has the minimum of c K and lambda_b K: the scores vanish from c = (1 - label_smoothing)/K^2 on,
    see `trivial_from`. Raises ValueError for other features, and for options that a loss does not have.
    """
    factor = loss_factor(loss, num_classes, over_classes)
    if features == "nonnegative" and label_smoothing:
        raise ValueError("label_smoothing has no closed form here for nonnegative features; leave it 0.")
    options = {} if features == "nonnegative" else {"label_smoothing": label_smoothing}
    if factor == 1:
        return _of(features).minimum(loss, num_classes, c, lambda_b, **options)
    c, lambda_b = closed_form.finite("c", c, above=True), closed_form.finite("lambda_b", lambda_b)
    found = _of(features).minimum(loss, num_classes, c / factor, lambda_b / factor, **options)
    return replace(found, objective=found.objective * factor)


def critical_lambda_b(loss, num_classes, c, features="free"):
    """The decay of the bias at which the minimum changes its kind: `closed_form.critical_lambda_b` for free features,
    `nonnegative.critical_lambda_b` for nonnegative ones."""
    return _of(features).critical_lambda_b(loss, num_classes, c)


def assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class):
    """W (K, d), H (d, K) and b (K,) that realise a Minimum: `closed_form.assemble` or `nonnegative.assemble`."""
    return _of(minimum.features).assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class)
