"""A module that is imported when it is first used: `np = lazy("numpy")`.

A chapter's room declares runs, figures and claims in one file. The registry imports every room, also for `bcebook
--help`, which must not load NumPy, torch, pandas or matplotlib: so a room names them this way. (importlib's own
LazyLoader puts a half-imported module into sys.modules, which libraries that look for torch there trip over.)
"""

import importlib


class lazy:  # noqa: N801 - reads as a statement: np = lazy("numpy")
    """Stands for the module `name`; the first attribute that is asked for imports it. Raises ImportError then, if at
    all."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"lazy({self._name!r})"
