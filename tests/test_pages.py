"""Running notebooks: refusals leave nothing behind, results are clean, dependencies are exact."""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError

from lib.checks import ParameterError
from paper.studies import base
from paper.tools import caches, early, pages, profiles, sources, typeset

ROOT = Path(__file__).resolve().parents[1]

STUDY = """
from lib import checks
shots = checks.integer("shots", shots, 1, 16)
print(shots, name)
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    code = nbformat.v4.new_code_cell
    cells = [
        nbformat.v4.new_markdown_cell("# Tiny\n\n## A second heading"),
        code("shots = 4\nname: str = 'a'", metadata={"tags": ["parameters"]}),
        code(STUDY.strip()),
        code(
            "from IPython.display import Markdown\nMarkdown(f'It took **{shots}** shots.')",
            metadata={"tags": ["export-sentence"]},
        ),
    ]
    path = tmp_path / "in" / "tiny.ipynb"
    path.parent.mkdir()
    nbformat.write(pages.tidy(nbformat.v4.new_notebook(cells=cells)), path)
    return path


def command(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line as a user calls it, from another folder."""
    return subprocess.run(
        [sys.executable, "-m", "paper.tools.pages", *map(str, words)], cwd=folder, capture_output=True, text=True
    )


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_run_writes_one_clean_notebook(notebook, tmp_path):
    out = tmp_path / "deep" / "out.ipynb"
    done = command(
        "run", notebook, out, "-p", "shots", "7", "-p", "name", "texture", "--title", "Mine", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert listing(tmp_path / "deep") == ["exports", "exports/out-sentence.md", "out.ipynb"]
    assert (tmp_path / "deep" / "exports" / "out-sentence.md").read_text() == "It took **7** shots.\n"
    result = nbformat.read(out, as_version=4)
    assert result.cells[0].source == "# Mine\n\n## A second heading"
    assert [cell.outputs[0].text for cell in result.cells if "print" in cell.source] == ["7 texture\n"]
    text = out.read_text()
    assert "papermill" not in text and str(tmp_path) not in text and "iopub" not in text
    run = result.metadata.pop("run")
    assert 0 <= run.pop("seconds") < 60
    assert run == {"notebook": "tiny", "parameters": {"shots": 7, "name": "texture"}}
    assert result.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize(
    "given, sentence",
    [
        (["-p", "shotz", "2"], "shotz is not a parameter of tiny.ipynb; the parameters are shots, name."),
        (["-p", "shots", "2.0"], "shots must be an integer from 1 to 16, but 2.0 was given."),
    ],
)
def test_refused_parameter_is_one_sentence_and_writes_nothing(notebook, tmp_path, given, sentence):
    before = listing(tmp_path)
    done = command("run", notebook, tmp_path / "new" / "out.ipynb", *given, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == sentence
    assert listing(tmp_path) == before


def test_refused_output_and_input(notebook, tmp_path):
    with pytest.raises(ParameterError, match=r"^OUT must be the name of a notebook \(.ipynb\), but .* was given.$"):
        pages.run(notebook, tmp_path / "out.txt", {})
    with pytest.raises(ParameterError, match=r"^OUT must be in a folder that can be written, but .* was given.$"):
        pages.run(notebook, notebook / "out.ipynb", {})
    with pytest.raises(ParameterError, match=r"^NOTEBOOK must be a file, but .* was given.$"):
        pages.run(tmp_path / "none.ipynb", tmp_path / "out.ipynb", {})
    (tmp_path / "text.ipynb").write_text("no notebook")
    with pytest.raises(ParameterError, match=r"^NOTEBOOK must be a Jupyter notebook"):
        pages.run(tmp_path / "text.ipynb", tmp_path / "out.ipynb", {})
    assert listing(tmp_path) == ["in", "in/tiny.ipynb", "text.ipynb"]


@pytest.mark.parametrize(
    "out", ["in/tiny.ipynb", "./in/../in/tiny.ipynb", "link.ipynb", "hard.ipynb", "book/other.ipynb", "book/new.ipynb"]
)
def test_out_is_never_a_notebook_of_somebody_else(notebook, tmp_path, monkeypatch, out):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "other.ipynb").write_text("committed")
    (tmp_path / "link.ipynb").symlink_to(notebook)
    (tmp_path / "hard.ipynb").hardlink_to(notebook)
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path / "book")
    monkeypatch.chdir(tmp_path)
    before, text = listing(tmp_path), notebook.read_text()
    with pytest.raises(ParameterError, match="^OUT must be another file than NOTEBOOK and outside of notebooks/"):
        pages.run(Path("in/tiny.ipynb"), Path(out), {})
    assert listing(tmp_path) == before and notebook.read_text() == text


@pytest.mark.parametrize("out", [f"{'x' * 300}.ipynb", "loop.ipynb/a.ipynb", "/proc/a.ipynb", "folder.ipynb"])
def test_what_cannot_be_written_is_said_before_the_run(notebook, tmp_path, monkeypatch, out):
    (tmp_path / "loop.ipynb").symlink_to("loop.ipynb")
    (tmp_path / "folder.ipynb").mkdir()
    monkeypatch.setattr(pages, "_execute", None)  # calling it would be a TypeError
    with pytest.raises(ParameterError, match=r"^OUT must be .*, but .* was given( \(.*\))?\.$"):
        pages.run(notebook, tmp_path / out, {})


def test_a_relative_path_is_below_the_folder_of_the_call(notebook, tmp_path):
    stored = nbformat.read(notebook, as_version=4)
    stored.cells.append(nbformat.v4.new_code_cell("import os, torchvision\nprint(os.getcwd())"))
    nbformat.write(stored, notebook)
    (tmp_path / "mine").mkdir()
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    words = [sys.executable, "-m", "paper.tools.pages", "run", str(notebook), "out.ipynb"]
    subprocess.run(words, cwd=tmp_path / "mine", env=environment, check=True)
    done = nbformat.read(tmp_path / "mine" / "out.ipynb", as_version=4)
    assert done.cells[-1].outputs[0].text == f"{tmp_path / 'mine'}\n"
    assert listing(tmp_path / "temporary") == []


def test_a_failure_is_three_lines_and_a_log(notebook, tmp_path):
    broken = nbformat.read(notebook, as_version=4)
    broken.cells.append(nbformat.v4.new_code_cell("def f():\n    raise RuntimeError('broken')\nf()"))
    nbformat.write(broken, notebook)
    done = command("run", notebook, "out.ipynb", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "out: failed in cell [4], def f():\n  RuntimeError: broken\n  the traceback is in out.ipynb.log\n"
    )
    assert "raise RuntimeError('broken')" in (tmp_path / "out.ipynb.log").read_text()
    assert listing(tmp_path) == ["in", "in/tiny.ipynb", "out.ipynb.log"]


# ------------------------------------------------------------------------------------------- refusals at once

ALONE = """
import json, sys
from paper.tools import early
module, study, given = json.loads(sys.argv[1])
print(json.dumps([early._ask(module, study, one) for one in given]))
assert not hasattr(sys.modules.get("torch"), "__version__"), "the real one"
"""


@pytest.mark.parametrize("notebook", sorted(sources.NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_field_says_without_torch_what_the_study_says(notebook):
    module, name = early._study(notebook)
    study = base.named(notebook.stem)
    assert (study.__module__, study.__name__) == (module, name)
    defaults = {one: field.default for one, field in study.model_fields.items()}
    request = json.dumps([module, name, [defaults, *({one: -150.5} for one in study.model_fields)]])
    asked = subprocess.run([sys.executable, "-c", ALONE, request], capture_output=True, text=True, check=True)
    accepted, *sentences = json.loads(asked.stdout)
    assert accepted == ""
    for one, sentence in zip(study.model_fields, sentences, strict=True):
        with pytest.raises(ParameterError) as refused:
            study(**{one: -150.5})
        # The bounds of these two depend on the chip.
        assert sentence == ("" if one in ("times", "severities") and not sentence else str(refused.value))


def test_a_refusal_starts_no_kernel_and_waits_for_no_import(tmp_path):
    notebook = sources.NOTEBOOKS / "gate_value.ipynb"
    words = [sys.executable, "-X", "importtime", "-m", "paper.tools.pages", "run", str(notebook), "out.ipynb"]
    done = subprocess.run([*words, "-p", "shots", "five"], cwd=tmp_path, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.endswith("shots must be an integer from 1 to 100000, but 'five' was given.\n")
    assert not imported & {"torch", "open_clip", "pandas", "nbformat", "papermill"}
    assert listing(tmp_path) == []


def test_failed_run_keeps_the_older_page(notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    out.write_text("an older page")
    with pytest.raises(ParameterError):
        pages.run(notebook, out, {"shots": -1})
    broken = nbformat.read(notebook, as_version=4)
    broken.cells.append(nbformat.v4.new_code_cell("raise RuntimeError('broken')"))
    nbformat.write(broken, notebook)
    with pytest.raises(Exception, match="broken"):
        pages.run(notebook, out, {})
    assert out.read_text() == "an older page"
    assert listing(tmp_path) == ["in", "in/tiny.ipynb", "out.ipynb"]


WIDGETS = """
import ipywidgets
sliders = [ipywidgets.IntSlider(3, description=name) for name in "ab"]
stack = ipywidgets.Stack([ipywidgets.Stack([ipywidgets.HTML(name)]) for name in "xy"])
links = [ipywidgets.jslink((sliders[1], "value"), (inner, "selected_index")) for inner in stack.children]
ipywidgets.VBox([*sliders, stack])
"""


def test_refresh_is_stable_and_refuses_what_is_not_clean(notebook):
    first = nbformat.read(notebook, as_version=4)
    first.cells.append(nbformat.v4.new_code_cell(WIDGETS.strip()))
    nbformat.write(first, notebook)
    assert pages.refresh(notebook) == []
    text = notebook.read_text()
    assert pages.refresh(notebook) == []
    assert notebook.read_text() == text
    assert pages.problems(nbformat.read(notebook, as_version=4)) == []
    noisy = nbformat.read(notebook, as_version=4)
    noisy.cells.append(nbformat.v4.new_code_cell("import sys\nprint('hm', file=sys.stderr)"))
    nbformat.write(noisy, notebook)
    before = notebook.read_text()
    assert pages.refresh(notebook) == ["code cell 5: a stored output on stderr"]
    assert notebook.read_text() == before


@pytest.mark.parametrize(
    "text, expected",
    [
        ("3", 3), ("-2.5", -2.5), ("1e-3", 1e-3), ("true", True), ("False", False), ("null", None),
        ("[0, 0.1]", [0, 0.1]), ("drift", "drift"), ("ViT-B-16-quickgelu", "ViT-B-16-quickgelu"),
        ("None", None), ("a, b", "a, b"), ("a/b.pt", "a/b.pt"), ("", ""),
    ],
)  # fmt: skip
def test_value_from_the_command_line(text, expected):
    given = profiles.value(text)
    assert given == expected and type(given) is type(expected)


# ------------------------------------------------------------------------------------------- the checker


def clean() -> nbformat.NotebookNode:
    code = nbformat.v4.new_code_cell
    cells = [
        nbformat.v4.new_markdown_cell("# A page"),
        code("seeds = 5  # how many\nrates = [0.1, 0.2]", metadata={"tags": ["parameters"]}, execution_count=1),
        code("print(seeds)", execution_count=2, outputs=[nbformat.v4.new_output("stream", text="holds | 5 of 5\n")]),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", text=text, name=name)


def display(**data: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", data={key.replace("_", "/"): text for key, text in data.items()})


def test_checker_accepts_what_is_in_order():
    notebook = clean()
    assert pages.problems(notebook) == []
    notebook.cells[2].outputs = [
        stream("50 % of gates collapse; it/step; the work/rest ratio\n"),
        display(text_html="<a href='https://example.org/home/x'>x</a></tmp>", image_png="aGVsbG8="),
    ]
    assert pages.problems(notebook) == []


@pytest.mark.parametrize(
    "output, problem",
    [
        (stream(" 50%|#####     | 5/10 [00:01<00:01,  4.9it/s]"), "a progress bar"),
        (stream("step 1\rstep 2"), "a progress bar"),
        (stream("lib/x.py:3: UserWarning: hm"), "a warning"),
        (stream("quiet", "stderr"), "a stored output on stderr"),
        (nbformat.v4.new_output("error", ename="E", evalue="x", traceback=[]), "a stored error"),
        (stream("Traceback (most recent call last):\n"), "a traceback"),
        (display(text_plain="'/home/someone/book/results'"), "the path of a machine"),
        (display(text_html="<p>saved to /tmp/x.csv</p>"), "the path of a machine"),
        (display(text_plain="C:\\Users\\someone"), "the path of a machine"),
        (display(text_plain=f"Path({str(ROOT)!r})"), "path of th"),
    ],
)
def test_checker_finds_unwanted_output(output, problem):
    notebook = clean()
    notebook.cells[2].outputs = [output]
    assert any(problem in found for found in pages.problems(notebook)), pages.problems(notebook)


def test_checker_looks_into_widgets():
    notebook, kind, model = clean(), "application/vnd.jupyter.widget-state+json", "0" * 32
    panel = {"state": {"value": "<img src='data:image/png;base64,/tmp/abc'>"}}
    notebook.metadata["widgets"] = {kind: {"state": {model: panel}}}
    assert pages.problems(notebook) == []
    notebook.metadata["widgets"][kind]["state"][model]["state"]["value"] = "read from /root/x"
    assert pages.problems(notebook)[0].startswith("widget state: the path of a machine")


def edit(what: str) -> nbformat.NotebookNode:
    notebook = copy.deepcopy(clean())
    parameters, cell = notebook.cells[1:]
    if what == "count":
        cell.execution_count = None
    elif what == "long":
        cell.source = "\n".join(f"x{i} = {i}" for i in range(pages.LONGEST_CELL + 1))
    elif what == "untagged":
        parameters.metadata.tags = []
    elif what == "second":
        cell.metadata["tags"] = ["parameters"]
    elif what == "import":
        parameters.source = "import torch\nseeds = 5"
    elif what == "computed":
        parameters.source = "seeds = 5\nsteps = seeds * 2"
    elif what == "swallow":
        cell.metadata["tags"] = ["raises-exception"]
    elif what == "skip":
        cell.metadata["tags"] = ["nbval-skip"]
    elif what == "live":
        cell.source = "whatif.live(run, controls)"
    elif what == "empty":
        cell.source = "# nothing"
    return notebook


@pytest.mark.parametrize(
    "what, problem",
    [
        ("count", "code cell 2 has no execution count"),
        ("long", "lines, more than"),
        ("untagged", "the first code cell, and no other, must be tagged parameters"),
        ("second", "the first code cell, and no other, must be tagged parameters"),
        ("import", "plain assignments of literal values"),
        ("computed", "plain assignments of literal values"),
        ("swallow", "code cell 2 is tagged raises-exception"),
        ("skip", "code cell 2 is tagged nbval-skip"),
        ("live", "not tagged remove-output"),
        ("empty", "code cell 2 is empty"),
    ],
)
def test_checker_finds_unwanted_code(what, problem):
    assert any(problem in found for found in pages.problems(edit(what))), pages.problems(edit(what))


# ------------------------------------------------------------------------- dependencies and profiles


@pytest.fixture
def house(tmp_path, monkeypatch) -> Path:
    """A small library with two wings, and notebooks over it."""
    files = {
        "lib/__init__.py": "from lib.checks import refuse\n",
        "lib/checks.py": "def refuse(): ...\n",
        "lib/gradients.py": "import math\n",
        "lib/prompts/__init__.py": "",
        "lib/prompts/gates.py": "from lib import gradients\ndef load():\n    from . import world\n",
        "lib/prompts/world.py": "from .. import checks\n",
        "lib/prompts/unused.py": "",
        "lib/prompts/weights/mini.safetensors": "weights",
        "lib/hardware/__init__.py": "",
        "lib/hardware/circuit.py": "import lib.gradients\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for module in (sources, pages):
        monkeypatch.setattr(module, "NOTEBOOKS", tmp_path / "notebooks")
    (tmp_path / "notebooks").mkdir()
    for name, code in (
        ("gate", "%matplotlib inline\nfrom lib.prompts.gates import load"),
        ("wire", "import lib.hardware.circuit"),
    ):
        cells = [
            nbformat.v4.new_code_cell("seeds = 1\ntask = 'a'", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(code),
        ]
        notebook = pages.tidy(nbformat.v4.new_notebook(cells=cells))
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def test_sources_are_what_the_imports_reach(house):
    def reached(name: str) -> set[str]:
        found = sources.reached(house / "notebooks" / f"{name}.ipynb")
        return {str(path.relative_to(house / "lib")) for path in found}

    ground = {"__init__.py", "checks.py", "gradients.py"}
    prompts = {"prompts/__init__.py", "prompts/gates.py", "prompts/world.py", "prompts/weights/mini.safetensors"}
    assert reached("gate") == ground | prompts
    assert reached("wire") == ground | {"hardware/__init__.py", "hardware/circuit.py"}


def test_table_of_contents_has_the_pages_of_the_profile(tmp_path):
    (tmp_path / "book").mkdir()
    for name in ("index", "text"):
        (tmp_path / "book" / f"{name}.md").write_text("")
    part = "  - {caption: A, chapters: [{file: book/text}, {file: book/runs/a}]}\n"
    part += "  - {caption: B, chapters: [{file: book/runs/b}]}\n"
    toc = tmp_path / "_toc.yml"
    toc.write_text(f"root: book/index\nparts:\n{part}")
    table, absent = typeset.contents(tmp_path, ["b", "mine"])
    shown = [[one["file"] for one in part["chapters"]] for part in table["parts"]]
    assert shown == [["book/text"], ["book/runs/b"], ["book/runs/mine"]] and absent == {"a"}
    for wrong, sentence in (
        ("parts: [", "_toc.yml:1 must be YAML, but it is not: "),
        ("root: book/index\nparts: 3\n", "_toc.yml must have a root and parts with chapters"),
        ("root: book/lost\nparts: []\n", "Files in _toc.yml must exist, but 'book/lost' was given."),
    ):
        toc.write_text(wrong)
        with pytest.raises(ParameterError, match=f"^{sentence}"):
            typeset.contents(tmp_path, ["a"])


RUN = "import sys; from paper.tools import pages; sys.exit(pages.main(sys.argv[1:]))"


def test_page_in_a_home_that_cannot_be_written(tmp_path):
    """Nothing is said about it on the page, and nothing is left in the temporary folder or beside the page."""
    cells = [
        nbformat.v4.new_code_cell("value = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import matplotlib.pyplot, torch._dynamo\nprint(value)"),
    ]
    for name in ("{in}", "temporary", "out"):
        (tmp_path / name).mkdir()
    nbformat.write(pages.tidy(nbformat.v4.new_notebook(cells=cells)), tmp_path / "{in}" / "tiny.ipynb")
    own = {name: value for name, value in os.environ.items() if name not in caches.VARIABLES}
    out = tmp_path / "out" / "out.ipynb"
    ran = subprocess.run(
        [sys.executable, "-c", RUN, "run", str(tmp_path / "{in}" / "tiny.ipynb"), str(out), "-p", "value", "2"],
        env={**own, "HOME": "/dev/null/x", "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    outputs = [output for cell in nbformat.read(out, as_version=4).cells for output in cell.outputs]
    assert [(output.name, output.text) for output in outputs] == [("stdout", "2\n")]
    assert listing(tmp_path / "temporary") == [] and listing(tmp_path / "out") == ["out.ipynb"]


def test_caches_stand_aside_where_the_checkout_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "_build").write_text("no folder")
    monkeypatch.setattr(caches, "ROOT", tmp_path)
    for name in caches.VARIABLES:
        monkeypatch.setenv(name, "elsewhere")
    caches.use_own()
    places = [Path(os.environ[name]) for name in caches.VARIABLES]
    assert all(place.is_dir() and tmp_path not in place.parents for place in places)


def test_process_that_ends_in_the_middle_is_placed(notebook, tmp_path):
    stored = nbformat.read(notebook, as_version=4)
    stored.cells[2].source = "# why\nimport os\nos._exit(3)"
    nbformat.write(stored, notebook)
    with pytest.raises(PapermillExecutionError) as caught:
        pages.run(notebook, tmp_path / "out.ipynb", {})
    where, what = pages.failure(caught.value)
    assert where == "in cell [2], # why" and what.startswith("DeadKernelError: the notebook's process ended")
    assert pages.failure(ParameterError("shots must be x, but y was given."))[1] == "shots must be x, but y was given."


def write_profile(house: Path, text: str) -> Path:
    path = house / "profiles" / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_profile_is_checked_before_anything_runs(house):
    path = write_profile(
        house, "pages:\n  a: {notebook: gate, parameters: {seeds: 3}}\n  b: {notebook: wire, after: [a]}\n"
    )
    book = profiles.profile(path)
    assert list(book) == ["a", "b"] and book["b"].after == ("a",) and book["a"].parameters == {"seeds": 3}
    path = write_profile(house, "pages:\n  a: {notebook: gate, parameters: {seedz: 3}}\n")
    with pytest.raises(
        ParameterError,
        match="^mine.yaml, page a: seedz is not a parameter of gate.ipynb; the parameters are seeds, task.$",
    ):
        profiles.profile(path)
    path = write_profile(house, "pages:\n  b: {notebook: wire, after: [a]}\n")
    with pytest.raises(ParameterError, match="^after of b must be pages of mine.yaml, but 'a' was given.$"):
        profiles.profile(path)
    path = write_profile(house, "pages:\n  b: {notebook: lost}\n")
    with pytest.raises(
        ParameterError, match="^notebook of b in mine.yaml must be one of gate, wire, but 'lost' was given.$"
    ):
        profiles.profile(path)
    with pytest.raises(ParameterError, match="^PROFILE must be one of mine, but 'huge' was given.$"):
        profiles.profile(house / "profiles" / "huge.yaml")


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("page:\n  a: {notebook: gate}\n", "pages of mine.yaml must be one or more named pages, but None was"),
        ("pages: gate\n", "pages of mine.yaml must be one or more named pages, but 'gate' was"),
        ("pages:\n  my-page: {notebook: gate}\n", "Pages of mine.yaml must have plain words .*, but 'my-page' was"),
        ("pages:\n  yes: {notebook: gate}\n", "Pages of mine.yaml must have plain words .*, but True was"),
        ("pages:\n  book: {notebook: gate}\n", "Pages of mine.yaml must have plain words .*, but 'book' was"),
        ("pages:\n  a: {notebook: gate, after: b}\n", "after of a in mine.yaml must be a list of pages, but 'b' was"),
        (
            "pages:\n  a: {notebook: gate, after: [{b: 1}]}\n",
            "after of a in mine.yaml must be a list of pages, but .* was",
        ),
        (
            "pages:\n  a: {notebook: gate, threads: true}\n",
            "threads of a in mine.yaml must be a whole .*, but True was",
        ),
        (
            "pages:\n  a: {notebook: gate, title: ' '}\n",
            "title of a in mine.yaml must be a text on one line, but ' ' was",
        ),
        (
            "pages:\n  a: {notebook: gate, parameters: {seeds: .inf}}\n",
            "seeds of a in mine.yaml must be made of .* inf was",
        ),
        ("pages:\n  a: {notebook: gate, parameters: {seeds: 2020-01-01}}\n", "seeds of a in mine.yaml must be .* was"),
        ("pages:\n  a: {notebook: gate}\n  a: {notebook: wire}\n", "mine.yaml:3 must be YAML, .*: a stands twice"),
        ("pages:\0", "mine.yaml must be YAML, but it is not: special characters are not allowed"),
        ("pages: " + "[" * 5000, "mine.yaml must be YAML, but it is not: maximum recursion"),
    ],
)
def test_profile_is_refused_in_one_sentence(house, text, sentence):
    with pytest.raises(ParameterError, match=f"^{sentence}.*\\.$"):
        profiles.profile(write_profile(house, text))


@pytest.mark.parametrize("given", ["3", "true", "-x", "a 'b'", "", -1e-05, [-1, "2"], {"on": 1.0}, None, True, 35e-4])
def test_profile_hands_over_values_as_they_are(given):
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", nargs=2)
    back = profiles.value(parser.parse_args(["-p", "name", profiles.text(given)]).p[1])
    assert (back, type(back)) == (given, type(given))


def test_export_writes_what_the_committed_notebook_shows(house, tmp_path, capsys):
    path = house / "notebooks" / "gate.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["export-bars"]
    notebook.cells[1].outputs = [display(image_png="aGVsbG8=", text_plain="<Figure>")]
    nbformat.write(notebook, path)
    out = tmp_path / "answer.png"
    assert pages.main(["export", "gate", "bars.png", str(out)]) == 0
    assert out.read_bytes() == b"hello"
    assert pages.main(["export", "gate", "lost.png", str(tmp_path / "no.png")]) == 2
    assert capsys.readouterr().err == "EXPORT must be one of bars.png, but 'lost.png' was given.\n"
    assert not (tmp_path / "no.png").exists()


def test_prune_removes_only_what_no_page_owns(tmp_path):
    for name in ("a.ipynb", "b_c.ipynb", "exports/a-bars.png", "exports/b_c-x-y.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    typeset.prune(tmp_path, ["b_c"])
    assert listing(tmp_path) == ["b_c.ipynb", "exports", "exports/b_c-x-y.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write everywhere")
def test_folder_without_the_right_to_write(notebook, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(ParameterError, match="^OUT must be in a folder that can be written"):
        pages.run(notebook, closed / "out.ipynb", {})
