"""The unconstrained-features model under one name: `closed_form` (balanced classes), `minimise` (any others) and `flow`
(on the way to the minimum)."""

from bcebook.science.closed_form import (
    LOSSES, MAX_CLASSES, Minimum, assemble, critical_lambda_b, effective_c, minimum, minority_collapse_size,
    paper_bias, separates, simplex_etf)
from bcebook.science.flow import BiasFlow, bias_flow, forgetting_time, resting_scores, speed
from bcebook.science.minimise import FEATURES, Solution, gradient, nonnegative_minimum, objective, solve

__all__ = ["BiasFlow", "FEATURES", "LOSSES", "MAX_CLASSES", "Minimum", "Solution", "assemble", "bias_flow",
           "critical_lambda_b", "effective_c", "forgetting_time", "gradient", "minimum", "minority_collapse_size",
           "nonnegative_minimum", "objective", "paper_bias", "resting_scores", "separates", "simplex_etf", "solve",
           "speed"]
