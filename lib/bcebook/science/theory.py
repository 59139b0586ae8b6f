"""The unconstrained-features model under one name: `closed_form` (balanced classes) and `minimise` (any others)."""

from bcebook.science.closed_form import (
    LOSSES, MAX_CLASSES, Minimum, assemble, critical_lambda_b, effective_c, minimum, minority_collapse_size,
    paper_bias, separates, simplex_etf)
from bcebook.science.minimise import FEATURES, Solution, gradient, nonnegative_minimum, objective, solve

__all__ = ["FEATURES", "LOSSES", "MAX_CLASSES", "Minimum", "Solution", "assemble", "critical_lambda_b", "effective_c",
           "gradient", "minimum", "minority_collapse_size", "nonnegative_minimum", "objective", "paper_bias",
           "separates", "simplex_etf", "solve"]
