"""Notebooks executed and pages rendered."""
