"""Chapters that have no room yet."""
