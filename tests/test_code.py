"""The version of code changes with what can change a number, and with nothing else."""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import code
from lib.checks import ParameterError
from lib.hardware.perturbations import ReadNoise

HOUSE = {
    "house/__init__.py": "from house.deep.tools import shared\n",
    "house/deep/__init__.py": "",
    "house/deep/tools.py": '''
        """Tools."""
        import math

        STEP = 3

        def shared(x):
            """Twice."""
            return 2 * x + STEP  # a comment

        def unrelated():
            return 5
        ''',
    "house/physics.py": '''
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from house import shared
        from house.registry import Registry

        if TYPE_CHECKING:
            from house.figures import draw

        class Base:
            low: float = 0.0
            def act(self, x: int) -> int:
                """What it does."""
                return x + 1
            def describe(self):
                return "a sentence"

        class Noise(Base):
            def act(self, x):
                return shared(x)

        class Other(Base):
            def act(self, x):
                return 7

        KNOWN: Registry[Base] = Registry(noise=Noise(), other=Other())
        ''',
    "house/registry.py": "class Registry(dict):\n    def pick(self, name):\n        return self[name]\n",
    "house/study.py": """
        import house.deep.tools as tools
        from house.physics import KNOWN

        class Bench:
            scale = 2
            def accuracy(self, name):
                return getattr(KNOWN[name], "act")(self.scale)
            def diagnostics(self, name):
                return tools.unrelated()

        def compute(config):
            from house.deep import tools as local
            return Bench().accuracy(config), local.shared(1)

        def findings(table):
            return "the gate is constant"
        """,
    "house/figures.py": "def draw(): return 'a label'\n",
}


@pytest.fixture
def house(tmp_path):
    """Writes a small package and hashes what a root of it reaches: edit(file, old, new) and version(root, ...)."""

    class House:
        def __init__(self) -> None:
            for name, text in HOUSE.items():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(textwrap.dedent(text))

        def edit(self, name: str, old: str, new: str) -> None:
            path = tmp_path / name
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))

        def walk(self, *roots: str, methods: tuple[str, ...] = ()) -> code._Walk:
            walk = code._Walk(code._Code(("house",), tmp_path))
            walk.attributes.update(methods)
            for root in roots:
                walk.add(*root.split(":"))
            walk.run()
            return walk

        def version(self, *roots: str, methods: tuple[str, ...] = ()) -> str:
            pieces = self.walk(*roots, methods=methods).pieces
            return hashlib.sha256(repr(sorted(pieces.items())).encode()).hexdigest()

    return House()


ROOTS = ("house.study:compute", "house.physics:Noise")


def test_what_is_reached_is_what_can_change_a_number(house):
    found = set(house.walk(*ROOTS).pieces)
    assert found == {
        "house.study:compute",
        "house.study:Bench",
        "house.study:Bench.accuracy",
        "house.physics:Noise",
        "house.physics:Noise.act",
        "house.physics:Base",
        "house.physics:Base.act",
        "house.deep.tools:shared",
        "house.deep.tools:STEP",
    }


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("house/deep/tools.py", "STEP = 3", "STEP = 4"),
        ("house/deep/tools.py", "2 * x", "3 * x"),
        ("house/physics.py", "return shared(x)", "return shared(x) + 1"),
        ("house/physics.py", "return x + 1", "return x + 2"),
        ("house/physics.py", "low: float = 0.0", "low: float = 1.0"),
        ("house/physics.py", "class Noise(Base):", "class Noise(Other):"),
        ("house/study.py", "scale = 2", "scale = 3"),
        ("house/study.py", "local.shared(1)", "local.shared(2)"),
        ("house/study.py", '"act"', '"describe"'),
        ("house/__init__.py", "import shared", "import unrelated as shared"),
    ],
)
def test_a_change_that_can_reach_a_number_is_seen(house, file, old, new):
    before = house.version(*ROOTS)
    house.edit(file, old, new)
    assert house.version(*ROOTS) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("house/deep/tools.py", "# a comment", "# another"),
        ("house/deep/tools.py", '"""Twice."""', '"""Two times."""'),
        ("house/deep/tools.py", '"""Tools."""', ""),
        ("house/deep/tools.py", "2 * x + STEP", "(2*x\n        + STEP)"),
        ("house/deep/tools.py", "return 5", "return 6"),
        ("house/physics.py", "x: int) -> int", "x: float) -> float"),
        ("house/physics.py", "low: float", "low: int"),
        ("house/physics.py", '"a sentence"', '"another sentence"'),
        ("house/physics.py", "return 7", "return 8"),
        ("house/physics.py", "Registry(noise", "Registry(new=Base(), noise"),
        ("house/study.py", "return tools.unrelated()", "return tools.shared(1)"),
        ("house/study.py", "the gate is constant", "the gate adapts"),
        ("house/figures.py", "a label", "another label"),
        ("house/registry.py", "self[name]", "self.get(name)"),
    ],
)
def test_a_change_that_cannot_is_not(house, file, old, new):
    before = house.version(*ROOTS)
    house.edit(file, old, new)
    assert house.version(*ROOTS) == before


def test_the_entry_in_use_counts_and_its_neighbours_do_not(house):
    noise, other = house.version(*ROOTS), house.version("house.study:compute", "house.physics:Other")
    assert noise != other
    house.edit("house/physics.py", "return 7", "return 8")
    assert house.version(*ROOTS) == noise
    assert house.version("house.study:compute", "house.physics:Other") != other


def test_methods_count_once_something_reached_mentions_them(house):
    root, method = "house.study:Bench", ("diagnostics",)
    before = house.version(root, methods=method)
    house.edit("house/deep/tools.py", "return 5", "return 6")
    assert house.version(root, methods=method) != before


def test_a_framework_calls_what_we_do_not(house):
    house.edit("house/physics.py", "class Noise(Base):", "import torch\nclass Noise(torch.autograd.Function):")
    house.edit("house/physics.py", "return shared(x)", "return shared(x)\n    def backward(self):\n        return 1")
    before = house.version(*ROOTS)
    house.edit("house/physics.py", "return 1\n", "return 2\n")
    assert house.version(*ROOTS) != before


def test_what_a_name_from_elsewhere_stands_for_counts(house):
    house.edit("house/deep/tools.py", "import math", "from math import sin as act")
    house.edit("house/deep/tools.py", "2 * x + STEP", "act(x)")
    before = house.version(*ROOTS)
    house.edit("house/deep/tools.py", "sin as act", "cos as act")
    assert house.version(*ROOTS) != before


def test_statements_with_effects_count(house):
    before = house.version(*ROOTS)
    house.edit("house/physics.py", "from house import shared", "from house import shared\nprint('x')")
    assert house.version(*ROOTS) != before


NUMBERS = st.integers(0, 9)


@given(st.lists(st.tuples(NUMBERS, st.booleans()), min_size=1, max_size=5), st.data())
@settings(max_examples=40, deadline=None)
def test_layout_never_matters_and_reached_constants_always_do(tmp_path_factory, functions, data):
    root = tmp_path_factory.mktemp("random")
    (root / "house").mkdir()
    path = root / "house" / "__init__.py"
    called = [place for place, (_, reached) in enumerate(functions) if reached]

    def source(values: list[int]) -> str:
        parts = [f"def f{place}(x):\n    '''Text.'''\n    return x + {value}\n" for place, value in enumerate(values)]
        body = "".join(f"    x = f{place}(x)  # step\n" for place in called)
        return "\n".join(parts) + f"\ndef root(x):\n{body}    return x\n"

    def version(text: str) -> dict[str, str]:
        path.write_text(text)
        walk = code._Walk(code._Code(("house",), root))
        walk.add("house", "root")
        walk.run()
        return walk.pieces

    values = [value for value, _ in functions]
    before = version(source(values))
    assert version(ast.unparse(ast.parse(source(values)))) == before
    place = data.draw(st.integers(0, len(values) - 1))
    changed = [value + (at == place) for at, value in enumerate(values)]
    assert (version(source(changed)) != before) == (place in called)


# --------------------------------------------------------------------------------------------- our own code


def test_the_hardware_does_not_reach_the_prompts_nor_the_book():
    from lib.hardware.perturbations import ReadNoise
    from paper.sweep import Sweep

    found = code.reached(Sweep.accuracy, ReadNoise())
    modules = {name.partition(":")[0] for name in found}
    assert {"lib.hardware.training", "lib.hardware.networks", "lib.replicas"} <= modules
    assert not [
        name for name in modules if name.startswith(("paper.studies", "paper.figures", "lib.prompts", "lib.verdicts"))
    ]
    assert "lib.hardware.perturbations:ReadNoise.current" in found
    assert "paper.sweep:Sweep.diagnostics" not in found


def test_partials_instances_and_bound_methods_are_taken_apart():
    from lib.hardware.perturbations import Drift, ReadNoise
    from paper.sweep import Sweep

    plain = code.version(Sweep.accuracy, ReadNoise())
    assert code.version(functools.partial(Sweep.accuracy, physics=ReadNoise())) == plain
    assert code.version(Sweep.accuracy, Drift()) != plain
    assert code.version(Sweep.accuracy, [Drift(), ReadNoise()]) == code.version(Sweep.accuracy, Drift(), ReadNoise())


def test_the_digits_are_those_of_every_python():
    script = (
        "import hashlib\nfrom lib import code\nwalk = code._Walk(code._ours())\n"
        "walk.add('paper.sweep', 'Sweep')\nwalk.add('lib.prompts.training', 'train')\n"
        "walk.attributes |= {'accuracy', 'diagnostics'}\nwalk.run()\n"
        "print(hashlib.sha256(repr(sorted(walk.pieces.items())).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(code.__file__).parents[1])}
    answers = {}
    for name in (sys.executable, "python3.11", "python3.12", "python3.13", "python3.14"):
        if (program := shutil.which(name)) is None:
            continue
        run = subprocess.run([program, "-c", script], capture_output=True, text=True, env=environment)
        if run.returncode == 0:
            answers[name] = run.stdout
    assert sys.executable in answers and len(set(answers.values())) == 1, answers


# ------------------------------------------------------------------------------------------ a reader's own code


def notebook(source: str, name: str):
    """A class as a notebook's cell defines it."""
    filename = f"<cell {hashlib.sha256(source.encode()).hexdigest()[:8]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = type(sys)(f"cells_{filename[6:-1]}")
    module.__file__ = filename
    sys.modules[module.__name__] = module
    exec(compile(source, filename, "exec"), vars(module))
    return getattr(module, name)


MINE = '''
from dataclasses import dataclass
from lib.hardware.perturbations import ReadNoise
from lib.checks import number

@dataclass(frozen=True)
class Mine(ReadNoise):
    """My noise."""
    def current(self, y, x, arrays, severity, drawn):
        return y * number("gain", 1.5)
'''


def test_a_class_of_the_readers_counts_with_what_it_stands_on():
    mine = notebook(MINE, "Mine")
    found = code.reached(mine())
    assert "lib.hardware.perturbations:ReadNoise" in found and "lib.checks:number" in found
    again = notebook(MINE.replace("My noise", "Another text").replace("return y", "return  y"), "Mine")
    other = notebook(MINE.replace("1.5", "1.6"), "Mine")
    assert code.version(mine()) == code.version(again())
    assert code.version(mine()) != code.version(other())


def test_code_without_a_source_is_refused_in_one_sentence():
    made = {}
    exec("class Hidden:\n    x = 1\n", {"__name__": "nowhere"}, made)
    with pytest.raises(
        ParameterError, match=r"^code must have a source that can be read, but 'Hidden' .* was given\.$"
    ):
        code.version(made["Hidden"]())


OWN = """
from lib.prompts import gates
SLOPE, WORDS = 2.0, ("a", "b")
def helper(z, by=3.0):
    return z.sigmoid() * by
class Base(gates.Length):
    scale = 1.0
    def activate(self, z):
        return helper(z) * SLOPE * self.scale
def make(k):
    class Mine(Base):
        def openness(self, values):
            return values / k
    return Mine
Mine = make(4)
"""


@pytest.mark.parametrize(
    ("old", "new", "act"),
    [
        ("* by", "+ by", None),
        ("by=3.0", "by=3.5", None),
        ("SLOPE, WORDS = 2.0", "SLOPE, WORDS = 2.5", None),
        ("self.scale", "self.tokens", None),
        ("make(4)", "make(5)", None),
        ("", "", lambda module: setattr(module, "SLOPE", 7.0)),
        ("", "", lambda module: setattr(module.Mine, "scale", 7.0)),
        ("", "", lambda module: setattr(module.Base, "activate", lambda self, z: z)),
        ("", "", lambda module: setattr(module.helper, "__defaults__", (7.0,))),
    ],
)
def test_whatever_changes_in_code_of_the_readers_changes_its_version(old, new, act):
    mine = notebook(OWN, "Mine")
    before = code.version(mine)
    assert code.version(notebook(OWN.replace("z.sigmoid", "z .sigmoid"), "Mine")) == before
    if act is None:
        mine = notebook(OWN.replace(old, new), "Mine")
    else:
        act(sys.modules[mine.__module__])
    assert code.version(mine) != before


def test_what_is_put_into_a_class_of_ours_counts_and_what_cannot_be_told_is_refused(monkeypatch):
    before = code.version(ReadNoise())
    monkeypatch.setattr(ReadNoise, "current", lambda self, y, x, arrays, severity, drawn: 2 * y)
    assert code.version(ReadNoise()) != before
    holds = notebook(OWN.replace("scale = 1.0", "scale = object()"), "Mine")
    with pytest.raises(ParameterError, match="^code must have a source that can be read"):
        code.version(holds)
