"""Data sets, networks, the training loop, and what is measured."""
