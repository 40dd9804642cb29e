"""The public face of the library: every name is there, documented, and nothing heavy loads before it is asked for."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys

import pytest

import lib


@pytest.mark.parametrize("name", lib.__all__)
def test_every_public_name_is_there_with_a_text(name):
    found = getattr(lib, name)
    # A registry is data; what it holds is documented where it is defined.
    assert isinstance(found, dict) or (found.__doc__ or "").strip()


@pytest.mark.parametrize("name", [name for name in lib.__all__ if inspect.isfunction(getattr(lib, name))])
def test_every_public_function_has_an_example_that_runs(name):
    function = getattr(lib, name)
    found = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert len(found) == 1 and found[0].examples, "there is none"
    found[0].globs = {one: getattr(lib, one) for one in lib.__all__} | vars(inspect.getmodule(function))
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found[0]).failed == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'lib' has no attribute 'on_ship'"):
        _ = lib.on_ship


def test_importing_the_face_loads_nothing_heavy():
    code = "import sys, lib; print([name for name in ('torch', 'pandas', 'open_clip', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_library_never_imports_the_book():
    code = (
        "import importlib, pkgutil, sys, lib\n"
        "for found in pkgutil.walk_packages(lib.__path__, 'lib.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'paper'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
