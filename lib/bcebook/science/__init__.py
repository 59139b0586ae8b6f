"""Losses, measures, statistics, verdicts and the model's minima; nothing here knows of runs."""
