"""The examples in docstrings run, in front of a service."""

import doctest
import importlib
import pkgutil

import pytest
from support import Service

import tierkeep

MODULES = sorted(it.name for it in pkgutil.walk_packages(tierkeep.__path__, "tierkeep."))


@pytest.mark.parametrize("name", ["tierkeep", *MODULES])
def test_the_examples_run(embedded: Service, name: str) -> None:
    module = importlib.import_module(name)
    given = {"service_url": embedded.base}
    ran = doctest.testmod(module, extraglobs=given, optionflags=doctest.ELLIPSIS, raise_on_error=False)
    assert ran.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    found = [test for name in ["tierkeep", *MODULES] for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in found) > 20
