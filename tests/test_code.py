"""A version changes with what a computation can reach, and with nothing else."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import code
from lib.checks import ParameterError

Shelf = Callable[..., str]
REPOSITORY = Path(__file__).resolve().parents[1]


class Shelves:
    """A package ``shelf`` in a new folder for every set of modules given."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = count()

    def write(self, modules: dict[str, str]) -> Path:
        folder = self._root / str(next(self._numbers))
        for name, text in {"shelf/__init__.py": "", **modules}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return folder

    def ask(self, question: Callable, modules: dict[str, str], *roots: object):
        folder = str(self.write(modules))
        sys.path.insert(0, folder)
        try:
            return question(*(roots or ("shelf.main:run",)), packages=["shelf"])
        finally:
            sys.path.remove(folder)


@pytest.fixture
def shelves(tmp_path) -> Iterator[Shelves]:
    yield Shelves(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "shelf"]:
        del sys.modules[name]


@pytest.fixture
def version(shelves) -> Shelf:
    return lambda modules, *roots: shelves.ask(code.version, modules, *roots)


@pytest.fixture
def reached(shelves) -> Callable[..., list[str]]:
    return lambda modules, *roots: shelves.ask(code.reached, modules, *roots)


MAIN = '''
"""A module."""
from __future__ import annotations
from typing import TYPE_CHECKING
import numpy as np
from shelf import middle

if TYPE_CHECKING:
    from shelf.heavy import Type

TITLE = "A figure's label"

def run(x: int, scale: float = 2.0) -> float:
    """What it does."""
    count: int = 3  # a comment
    return middle.step(x) * scale * count * np.mean([x])

def findings():
    return "A sentence that the page ends in."
'''
MIDDLE = """
from shelf import base as ground

def step(x):
    return ground.SLOPE * x + ground.offset()

def draw():
    return "label"
"""
BASE = """
SLOPE = 1.5
OTHER = 2.5

def offset():
    return _hidden(3)

def _hidden(value):
    return value - 1
"""
MODULES = {"shelf/main.py": MAIN, "shelf/middle.py": MIDDLE, "shelf/base.py": BASE, "shelf/heavy.py": "class Type: ..."}


def edited(file: str, old: str, new: str, modules: dict[str, str] = MODULES) -> dict[str, str]:
    assert old in modules[file]
    return {**modules, file: modules[file].replace(old, new)}


def test_it_names_what_it_reached(reached, shelves):
    names = ["base:SLOPE", "base:_hidden", "base:offset", "main:run", "middle:step"]
    assert reached(MODULES) == [f"shelf.{name}" for name in names]
    files = [path.name for path in shelves.ask(code.files, MODULES)]
    assert files == ["__init__.py", "base.py", "main.py", "middle.py"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("shelf/main.py", '"""What it does."""', '"""Said otherwise."""\n    "and more"'),
        ("shelf/main.py", "  # a comment", ""),
        ("shelf/main.py", "x: int, scale: float = 2.0", "x: 'heavy', scale = 2.0"),
        ("shelf/main.py", "count: int = 3", "count = 3"),
        ("shelf/main.py", " -> float", ""),
        ("shelf/main.py", '"A figure\'s label"', '"Another"'),
        ("shelf/main.py", "A sentence that", "Another sentence that"),
        ("shelf/main.py", '"""A module."""', '"""The module."""'),
        ("shelf/middle.py", '"label"', '"another label"'),
        ("shelf/base.py", "OTHER = 2.5", "OTHER = 3.5\nMORE = 1"),
        ("shelf/heavy.py", "...", "x = 1"),
        ("shelf/base.py", "return value - 1", "return (value\n        - 1)"),
    ],
)
def test_what_cannot_change_a_number_changes_nothing(version, file, old, new):
    assert version(edited(file, old, new)) == version(MODULES)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("shelf/base.py", "SLOPE = 1.5", "SLOPE = 1.6"),
        ("shelf/base.py", "value - 1", "value - 2"),
        ("shelf/base.py", "value - 1", "value + 1"),
        ("shelf/middle.py", "ground.SLOPE", "ground.OTHER"),
        ("shelf/main.py", "= 2.0", "= 2.5"),
        ("shelf/main.py", "= 2.0", "= 2"),
        ("shelf/main.py", "np.mean", "np.max"),
        ("shelf/main.py", "import numpy as np", "import torch as np"),
        ("shelf/main.py", "def run(", "@functools.cache\ndef run("),
    ],
)
def test_what_can_change_a_number_changes_the_version(version, file, old, new):
    assert version(edited(file, old, new)) != version(MODULES)


def test_what_a_name_stands_for_counts(version):
    main = "from shelf.base import f, g\ndef run(x): return f(x) - g(x)"
    swapped = "from shelf.base import g as f, f as g\ndef run(x): return f(x) - g(x)"
    base = {"shelf/base.py": "def f(x): return x\ndef g(x): return 2 * x"}
    assert version({**base, "shelf/main.py": main}) != version({**base, "shelf/main.py": swapped})
    outside = "from torch import {} as act\ndef run(x): return act(x)"
    assert version({"shelf/main.py": outside.format("relu")}) != version({"shelf/main.py": outside.format("tanh")})


def test_a_local_name_is_not_the_module_s(reached):
    main = """
    def offset(): return 1
    def scale(): return 1
    def item(): return 1
    def kept(): return 1
    def late(): return 1
    def run(offset):
        scale = offset + 1
        inner = lambda late: late
        return [item for item in range(scale)] + [kept() for _ in range(2)], inner
    """
    assert reached({"shelf/main.py": main}) == ["shelf.main:kept", "shelf.main:run"]


@pytest.mark.parametrize(
    "main",
    [
        "def run():\n    from shelf.base import offset\n    return offset()",
        "def run():\n    import shelf.base\n    return shelf.base.offset()",
        "def run():\n    from .base import offset as here\n    return here()",
        "def run():\n    from . import base\n    return (lambda: base.offset())()",
        "from .base import offset\ndef run(): return offset()",
        "import shelf.base as b\ndef run(): return b.offset()",
        "import shelf\ndef run(): return shelf.base.offset()",
        "from shelf import offset\ndef run(): return offset()",
        "import shelf\ndef run(): return shelf.renamed()",
        "from shelf.base import *\ndef run(): return offset()",
        "try:\n    from shelf.base import offset\nexcept ImportError:\n    offset = None\ndef run(): return offset()",
        "from shelf import base\ndef run(): return getattr(base, 'offset')()",
        "from shelf import base\nTABLE = {'a': base.offset}\ndef run(): return TABLE['a']()",
        "from shelf import base\nTABLE = {}\nTABLE['a'] = base.offset\ndef run(): return TABLE['a']()",
        "from shelf import base\ndef run(x=base.offset): return x()",
        "from shelf import base\n@base.offset\ndef run(x): return x()",
    ],
)
def test_every_way_to_import_is_followed(reached, version, main):
    modules = {
        "shelf/__init__.py": "from shelf.base import offset\nfrom .base import offset as renamed",
        "shelf/base.py": BASE,
        "shelf/main.py": main,
    }
    found = reached(modules)
    assert {"shelf.base:offset", "shelf.base:_hidden"} <= set(found), found
    assert version(modules) != version(edited("shelf/base.py", "value - 1", "value - 2", modules))


def test_packages_that_import_each_other_end(reached):
    modules = {
        "shelf/__init__.py": "from shelf import base\nfrom shelf.main import run",
        "shelf/base.py": "from shelf.main import run\ndef f(): return run()",
        "shelf/main.py": "from shelf import base\ndef run(): return base.f()",
    }
    assert reached(modules) == ["shelf.base:f", "shelf.main:run"]


CLASSES = {
    "shelf/base.py": """
    class Parent:
        rate = 0.1
        def __init__(self): self.x = 1
        def step(self): return self.rate
        def unused(self): return 5
    """,
    "shelf/main.py": """
    from dataclasses import dataclass, field
    from shelf.base import Parent
    class Sweep(Parent):
        chips = 25
        def accuracy(self): return self._helper() + self.step()
        def _helper(self): return 3
        def diagnostics(self): return 4
        @property
        def size(self): return 6
    class Unrelated(Parent):
        def accuracy(self): return 7
    def run(): return Sweep().accuracy()
    def run_by_name(): return getattr(Sweep(), "diagnostics")()
    @dataclass
    class Holder:
        sweep: Sweep
        other: int = 8
        def run(self): return self.sweep.size
    """,
}


@pytest.mark.parametrize(
    ("root", "old", "counts"),
    [
        ("run", "self.x = 1", True),
        ("run", "rate = 0.1", True),
        ("run", "chips = 25", True),
        ("run", "return 3", True),
        ("run", "return 4", False),
        ("run", "return 5", False),
        ("run", "return 6", False),
        ("run", "return 7", False),
        ("Sweep.accuracy", "return 3", True),
        ("Sweep.accuracy", "return 4", False),
        ("Sweep.diagnostics", "return 3", False),
        ("Sweep.diagnostics", "return 4", True),
        ("run_by_name", "return 4", True),
        ("run_by_name", "return 3", False),
        ("Holder.run", "return 6", True),
        ("Holder.run", "return 4", False),
        ("Holder.run", "other: int = 8", True),
    ],
)
def test_only_the_methods_that_are_mentioned_count(version, root, old, counts):
    file = next(file for file, text in CLASSES.items() if old in text)
    root = f"shelf.main:{root}"
    changed = edited(file, old, old + "5", CLASSES)
    assert (version(changed, root) != version(CLASSES, root)) == counts


def test_side_effects_of_reached_modules_count(version, reached):
    effects = edited("shelf/base.py", "OTHER = 2.5", "OTHER = 2.5\nprint(OTHER)")
    assert "shelf.base:<module>" in reached(effects) and "shelf.base:OTHER" in reached(effects)
    assert version(effects) != version(MODULES)
    unread = {**MODULES, "shelf/heavy.py": "print('never imported by the run')"}
    assert version(unread) == version(MODULES)
    program = edited("shelf/base.py", "OTHER = 2.5", 'OTHER = 2.5\nif __name__ == "__main__":\n    print(1)')
    assert version(program) == version(MODULES)
    package = {**MODULES, "shelf/__init__.py": "import torch\ntorch.set_num_threads(1)"}
    assert version(package) != version(MODULES)


REGISTRY = {
    "shelf/registry.py": "class Registry(dict):\n    def get(self, name): return self[name]",
    "shelf/laws.py": """
    from shelf.registry import Registry
    LAWS = Registry("law")
    MORE: Registry[type] = make()
    LAWS["outside"] = print
    LAWS.update(x=1)
    @LAWS.register
    class First:
        def draw(self): return 1
    class Second:
        def draw(self): return 2
    LAWS["second"] = Second
    """,
    "shelf/main.py": "from shelf.laws import LAWS, MORE\ndef run(law): return LAWS['first'], MORE, law.draw()",
}


def test_a_registry_is_not_followed_but_the_entry_given_is(version, reached, shelves):
    assert reached(REGISTRY) == ["shelf.main:run"]
    assert reached(REGISTRY, "shelf.main:run", "shelf.laws:First") == [
        "shelf.laws:First",
        "shelf.laws:First.draw",
        "shelf.main:run",
    ]
    assert version(edited("shelf/laws.py", "return 1", "return 3", REGISTRY)) == version(REGISTRY)


def test_live_objects_are_roots(shelves, monkeypatch):
    modules = {
        "shelf/main.py": """
        import functools
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Law:
            strength: float = 1.0
            def draw(self): return 1
        @dataclass(frozen=True)
        class Outer:
            inner: object
            def go(self): return self.inner.draw()
        def run(law, more=()): return law.draw()
        @functools.cache
        def kept(): return 2
        @functools.wraps(run)
        def wrapped(): return 3
        """
    }
    monkeypatch.syspath_prepend(str(shelves.write(modules)))
    import shelf.main as main  # type: ignore[import-not-found]

    def names(*roots: object) -> set[str]:
        return {name.partition(":")[2] for name in code.reached(*roots, packages=["shelf"])}

    law = {"Law", "Law.draw"}
    assert names(main.run) == {"run"}
    assert names(main.run, main.Law()) == names(main.run, main.Law) == {"run", *law}
    assert names(functools.partial(main.run, main.Law(2.0), more=[1.0, "x"])) == {"run", *law}
    assert names(functools.partial(main.run, more=({"a": main.Law()},))) == {"run", *law}
    assert names(main.Outer(main.Outer(main.Law())).go) == {"Outer", "Outer.go", *law}
    assert names(main.Outer.go) == {"Outer", "Outer.go"}
    assert names(main.kept) == {"kept"} and names([main.kept, main.run]) == {"kept", "run"}
    assert code.version(main.run, main.Law(), packages=["shelf"]) == code.version(
        main.Law(3.0), main.run, packages=["shelf"]
    )


# ------------------------------------------------------------------------------------------------- code of the reader's
_cells = count()


def notebook(text: str, name: str = "__main__", **given: object) -> dict[str, object]:
    """What a notebook's cell defines; like IPython, its source is known to ``linecache`` only."""
    source = textwrap.dedent(text)
    file = f"<cell {next(_cells)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace = {"__name__": name, **given}
    exec(compile(source, file, "exec"), namespace)
    return namespace


CELL = '''
# A comment.
SCALE = 2.0
LABELS = {"a": 1}

def helper(x):
    return x + 1

class Law(Parent):
    """What it is."""

    def draw(self, shape: int):
        return helper(shape) * SCALE * np.sqrt(LABELS["a"])
'''


@pytest.fixture
def parent(shelves, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(shelves.write(CLASSES)))
    import shelf.base as base  # type: ignore[import-not-found]

    return base


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("x + 1", "x + 2", True),
        ("SCALE = 2.0", "SCALE = 2.5", True),
        ('"a": 1', '"a": 2', True),
        ("np.sqrt", "np.abs", True),
        ("helper(shape)", "helper(2 * shape)", True),
        ("# A comment.", "# Said otherwise.\n\n", False),
        ('"""What it is."""', "", False),
        ("shape: int", "shape", False),
        ("SCALE = 2.0", "SCALE = 2.0\nOTHER = 3", False),
    ],
)
def test_a_notebook_s_class_counts_with_what_it_uses(parent, old, new, counts):
    import numpy as np

    def law(text: str) -> object:
        return notebook(text, Parent=parent.Parent, np=np)["Law"]()  # type: ignore[operator]

    assert old in CELL
    before, after = law(CELL), law(CELL.replace(old, new))
    assert (code.version(before, packages=["shelf"]) != code.version(after, packages=["shelf"])) == counts
    assert "shelf.base:Parent" in code.reached(before, packages=["shelf"])
    assert code.version(before, packages=["shelf"]) == code.version(law(CELL), packages=["shelf"])


def test_a_notebook_s_function_counts_with_its_closure(parent):
    def made(value: float, power: int = 2):
        cell = f"def make(value):\n    def inner(x):\n        return x ** {power} * value\n    return inner"
        return notebook(cell)["make"](value)  # type: ignore[operator]

    assert code.version(made(1.0)) == code.version(made(1.0))
    assert code.version(made(1.0)) != code.version(made(2.0))
    assert code.version(made(1.0)) != code.version(made(1.0, 3))
    short = "f = lambda x: x + {}"
    one, two = notebook(short.format(1))["f"], notebook(short.format(2))["f"]
    assert code.version(one) != code.version(two)


def test_a_dataclass_of_a_notebook_needs_no_method():
    cell = "from dataclasses import dataclass\n@dataclass\nclass Unwritten:\n    rate: float = {}"
    one = code.version(notebook(cell.format(1))["Unwritten"])
    assert one != code.version(notebook(cell.format(2))["Unwritten"])


def test_a_reader_s_module_is_followed_from_a_notebook(tmp_path, monkeypatch):
    def asked(value: int) -> str:
        folder = tmp_path / str(value)
        folder.mkdir()
        (folder / "helpers_of_mine.py").write_text(f"def law(x):\n    return x * {value}\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            run = notebook("import helpers_of_mine\ndef run(x):\n    return helpers_of_mine.law(x)")["run"]
            found = code.version(run)
        del sys.modules["helpers_of_mine"]
        return found

    assert asked(1) != asked(2)


def test_code_without_a_source_is_refused():
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("def run(x): return x", namespace)
    exec("class Sourceless: x = 1", namespace)
    with pytest.raises(ParameterError, match=r"^root must be .* can be found, but run was given\.$"):
        code.version(namespace["run"])
    with pytest.raises(ParameterError, match="but Sourceless was given"):
        code.version(namespace["Sourceless"])
    with pytest.raises(ParameterError, match="module:name"):
        code.version("lib.checks:nothing_of_this_name")


def test_installed_objects_are_left_out():
    import numpy as np
    import torch

    @dataclass
    class Holder:
        values: object

    assert code.reached(torch.relu, torch.nn.Linear(2, 2), np.zeros(2), np.mean, print, os.PathLike) == []
    found = code.reached(Holder(torch.zeros(2)))
    assert len(found) == 1 and found[0].endswith("Holder")


# ----------------------------------------------------------------------------------------------------- random programs
@st.composite
def programs(draw) -> list[tuple[str, int, int]]:
    """Functions f0, f1, ...: the way each is written, its constant, and the later one that it calls."""
    size = draw(st.integers(2, 6))
    kinds = [draw(st.sampled_from(["function", "method", "constant", "import", "text"])) for _ in range(size)]
    calls = [draw(st.integers(place + 1, size)) for place in range(size)]
    return [(kind, draw(st.integers(0, 99)), call) for kind, call in zip(kinds, calls, strict=True)]


def written(program: list[tuple[str, int, int]]) -> str:
    lines = ["import shelf.main", ""]
    for place, (kind, value, call) in enumerate(program):
        later = f"f{call}(x)" if call < len(program) else "x"
        lines += {
            "function": [f"def f{place}(x):", f'    """Number {place}."""', f"    return {later} + {value}"],
            "method": [
                f"class C{place}:",
                f"    scale: int = {value}",
                f"    def m{place}(self, x):",
                f"        return {later} * self.scale",
                f"def f{place}(x): return C{place}().m{place}(x)",
            ],
            "constant": [f"K{place} = [{value}, 'a']", f"def f{place}(x, *, y=K{place}): return {later}, y"],
            "import": [
                f"def f{place}(x):",
                f"    from shelf.main import f{min(call, len(program) - 1)} as later",
                f"    return [later(x) for later_ in range({value})]",
            ],
            "text": [f"def f{place}(x):", f"    return f'{{{later}!r:>{{x}}}} {value}' \"b\" f'{{x}}'"],
        }[kind] + [""]
    return "\n".join(lines)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs(), st.randoms(use_true_random=False))
def test_random_programs(version, program, source: random.Random):
    text = written(program)
    before = version({"shelf/main.py": text}, "shelf.main:f0")
    assert version({"shelf/main.py": ast.unparse(ast.parse(text))}, "shelf.main:f0") == before
    changed = source.randrange(len(program))
    kind, value, call = program[changed]
    other = [*program[:changed], (kind, value + 100, call), *program[changed + 1 :]]
    after = version({"shelf/main.py": written(other)}, "shelf.main:f0")
    assert (after != before) == (changed in _alive(program))


def _alive(program: list[tuple[str, int, int]]) -> set[int]:
    """The functions that are reached from f0."""
    found: set[int] = set()
    waiting = [0]
    while waiting:
        place = waiting.pop()
        if place < len(program) and place not in found:
            found.add(place)
            kind, _, call = program[place]
            waiting.append(min(call, len(program) - 1) if kind == "import" else call)
    return found


# ------------------------------------------------------------------------------------------------------ this repository
def test_a_sweep_s_accuracy_reaches_its_training_and_no_more():
    from lib.hardware.sweep import Sweep

    found = code.reached(Sweep.accuracy)
    assert {"lib.hardware.training:Trainer.accuracy_on_chips", "lib.replicas:train"} <= set(found)
    assert not any(name.startswith(("paper", "lib.prompts", "lib.hardware.diagnostics")) for name in found)
    assert "lib.hardware.sweep:Sweep.diagnostics" not in found
    assert "lib.hardware.diagnostics:diagnose" in code.reached(Sweep.diagnostics)
    assert code.version(Sweep.accuracy) != code.version(Sweep.diagnostics)


PROBE = """
import time
from lib import code
start = time.perf_counter()
name = code.version("lib.hardware.sweep:Sweep.accuracy")
first = time.perf_counter() - start
start = time.perf_counter()
code.version("lib.hardware.sweep:Sweep.accuracy")
print(name, first, time.perf_counter() - start)
"""


def _pythons() -> list[str]:
    """This Python, and others that are installed and new enough."""
    others = sorted(Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python"))
    return [sys.executable, *map(str, others)]


@pytest.mark.parametrize("python", _pythons(), ids=lambda path: Path(path).parents[1].name)
def test_every_python_gives_the_same_version_and_fast(python):
    given = {"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]}
    out = subprocess.run([python, "-c", PROBE], env=given, capture_output=True, text=True, check=True).stdout.split()
    assert out[0] == code.version("lib.hardware.sweep:Sweep.accuracy")
    # On an idle machine 0.1 s and 1 ms.
    assert float(out[1]) < 2 and float(out[2]) < 0.05


def test_an_edit_during_the_process_is_seen(shelves, monkeypatch):
    folder = shelves.write(MODULES)
    monkeypatch.syspath_prepend(str(folder))
    before = code.version("shelf.main:run", packages=["shelf"])
    path = folder / "shelf" / "base.py"
    path.write_text(path.read_text().replace("SLOPE = 1.5", "SLOPE = 1.6"))
    later = time.time_ns() + 10**9
    os.utime(path, ns=(later, later))
    assert code.version("shelf.main:run", packages=["shelf"]) != before
