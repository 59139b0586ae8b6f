"""The page of the library's functions, made from their signatures and docstrings."""

import importlib
import inspect
import re

# What a person with a network of their own uses, from the bottom up.
MODULES = ("science.losses", "science.uniform", "science.metrics", "science.summaries", "science.stats",
           "science.closed_form", "science.nonnegative", "science.minimise", "science.flow", "science.relaxation",
           "science.equivalents",
           "science.theory", "runs.config", "runs.store")


def public(module) -> list[tuple[str, object]]:
    """The functions and classes that a module defines itself and does not hide, in the order of its source."""
    own = [(name, value) for name, value in vars(module).items()
           if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
           and (inspect.isfunction(value) or inspect.isclass(value))]
    return sorted(own, key=lambda pair: inspect.getsourcelines(pair[1])[1])


def page() -> str:
    """Markdown: each module with its functions and classes, their signatures and docstrings as they stand in the
    source."""
    lines = ["# Functions of the library", "",
             "Generated from the source. Shapes stand in brackets after the names; the tests run every example.", ""]
    for name in MODULES:
        module = importlib.import_module(f"bcebook.{name}")
        lines += [f"## bcebook.{name}", "", "```text", inspect.getdoc(module) or "", "```", ""]
        for called, value in public(module):
            signature = str(inspect.signature(value)) if inspect.isfunction(value) else ""
            signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", signature)  # an address is another each time
            told = [f"{called}{signature}", "", inspect.getdoc(value) or ""]
            lines += [f"### {called}", "", "```text", *told, "```", ""]
    return "\n".join(lines)
