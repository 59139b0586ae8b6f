"""The examples in the docstrings of science/ run, and every public function has one."""

import doctest
import importlib
import inspect
import re

import pytest

from bcebook.book import reference
from bcebook.paths import REPOSITORY

MODULES = ("losses", "metrics", "uniform", "stats", "numerics", "closed_form", "nonnegative", "minimise", "relaxation", "equivalents", "summaries", "verdicts")
COMPLETE = ("losses", "metrics", "uniform", "stats", "numerics", "closed_form", "nonnegative", "minimise", "relaxation", "equivalents", "summaries")  # here every public function has one


def module(name: str):
    return importlib.import_module(f"bcebook.science.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name):
    assert doctest.testmod(module(name)).failed == 0  # a failure is told in the captured output


@pytest.mark.parametrize("name", COMPLETE)
def test_every_public_function_has_an_example(name):
    home = module(name)
    functions = [(called, f) for called, f in inspect.getmembers(home, inspect.isfunction)
                 if f.__module__ == home.__name__ and not called.startswith("_")]
    without = [called for called, f in functions if not doctest.DocTestParser().get_examples(f.__doc__ or "")]
    assert functions and not without, f"{name}: {', '.join(without)} without an example"


def test_the_facade_holds_what_its_two_modules_offer():
    """`theory` re-exports every public function and class of the model, but for the checks of arguments."""
    theory, checks = module("theory"), {"whole", "classes", "finite", "known_features", "smoothing"}
    for name in ("closed_form", "nonnegative", "minimise", "relaxation", "equivalents"):
        home = module(name)
        own = {called for called, x in vars(home).items() if getattr(x, "__module__", "") == home.__name__
               and not called.startswith("_")}
        assert own - checks <= set(theory.__all__), own - checks - set(theory.__all__)
    assert all(hasattr(theory, called) for called in theory.__all__)


def test_every_line_of_the_page_for_other_networks_is_true():
    text = (REPOSITORY / "book" / "own_network.md").read_text()
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    test = doctest.DocTestParser().get_doctest(examples, {}, "own_network.md", None, 0)
    assert len(test.examples) > 10
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.failures == 0  # a failure is told in the captured output


def test_the_page_of_functions_has_every_public_one():
    text = reference.page()
    assert " at 0x" not in text  # the same page each time
    for name in reference.MODULES:
        for called, value in reference.public(importlib.import_module(f"bcebook.{name}")):
            assert f"### {called}\n" in text and inspect.getdoc(value) in text, f"{name}.{called} has no docstring"
