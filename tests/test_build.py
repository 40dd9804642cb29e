"""A small book, built as `make book` builds the real one: what is done again, what is said, what is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbformat
import pytest

from paper.tools import pages

ROOT = Path(__file__).resolve().parents[1]

CONFIG = ("_config.yml", "Snakefile", "requirements.lock", "CITATION.cff")
# What runs and typesets pages, and nothing else: the warm process imports whatever it finds, in every build.
TOOLS = "__init__ caches computed early lighten linked pages profiles reproducing sources typeset version warm ways"
CODE = (
    *("lib/__init__.py", "lib/checks.py", "paper/__init__.py", "paper/notes.py", "paper/figures/__init__.py"),
    *("paper/words/__init__.py", "paper/words/format.py"),
    *(f"paper/tools/{name}.py" for name in TOOLS.split()),
)
#: In place of what looks at pictures, of which this book has none: it would draw in half of what can be installed.
STYLE = "PICTURED = CAPTION = 'none'\n\ndef described(path):\n    return '', (0, 0), False, 0\n"

PROFILE = """
pages:
  one: {notebook: note, title: One}
  two: {notebook: note, title: Two, parameters: {value: 2}, after: [one]}
  other: {notebook: other}
"""
TOC = """
format: jb-book
root: book/index
parts:
  - caption: A part
    chapters: [{file: book/text}, {file: book/runs/one}, {file: book/runs/two}, {file: book/runs/other}]
"""


def write_notebook(path: Path, title: str, *code: str) -> None:
    cells = [
        nbformat.v4.new_markdown_cell(f"# {title}"),
        nbformat.v4.new_code_cell("value = 1", metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, code),
    ]
    nbformat.write(pages.tidy(nbformat.v4.new_notebook(cells=cells)), path)


# Snakemake itself takes seconds to import: it is imported once, and runs in forks.
FORKS = """
import json, os, sys
from snakemake.cli import main
for line in sys.stdin:
    asked = json.loads(line)
    if os.fork() == 0:
        out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        sys.path[:0] = [asked["environment"]["PYTHONPATH"]]
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["environment"]["PYTHONPATH"])
        sys.argv = asked["command"]
        main(sys.argv[1:])
        os._exit(1)  # it ends by itself
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


class House:
    """A copy of the build's machinery around two notebooks and two texts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept = root.with_name(f"{root.name} as it was")
        self.forks: subprocess.Popen[str] | None = None
        for name in CODE:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        self.write("paper/figures/style.py", STYLE)
        if (ROOT / "_build" / "caches").is_dir():
            # Else the first build would list the machine's fonts.
            shutil.copytree(ROOT / "_build" / "caches", root / "_build" / "caches")
        (root / "lib" / "words.py").write_text("def word():\n    return 'a word'\n")
        for name in CONFIG:
            shutil.copy(ROOT / name, root)
        for name in ("book/runs", "book/static/css", "profiles", "notebooks"):
            (root / name).mkdir(parents=True)
        shutil.copy(ROOT / "book" / "references.bib", root / "book")
        for name in ("css/book.css", "favicon.svg"):
            shutil.copy(ROOT / "book" / "static" / name, root / "book" / "static" / name)
        self.write("profiles/quick.yaml", PROFILE)
        self.write("_toc.yml", TOC)
        self.write("book/index.md", "# Index\n\nSee {ref}`there`, {doc}`runs/one` and {cite:t}`radford2021clip`.\n")
        self.write("book/text.md", "# Text\n\n(there)=\n\n## A place\n\nWords.\n\n```{bibliography}\n```\n")
        write_notebook(root / "notebooks" / "note.ipynb", "Note", "from lib.words import word\nprint(word(), value)")
        write_notebook(root / "notebooks" / "other.ipynb", "Other", "import lib.checks\nprint('other', value)")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        assert old in self.read(name)
        self.write(name, self.read(name).replace(old, new))

    @property
    def environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("BOOK_", "PYTEST"))}
        return {
            **given,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "PYTHONNOUSERSITE": "1",
            "HOME": "/dev/null/home",  # nothing can be written or even be there
        }

    @property
    def command(self) -> list[str]:
        """What `make book` runs."""
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
        command = re.search(r"(?m)^\t@(snakemake .*)$", makefile)[1]
        return command.replace("$(JOBS)", "2").replace("$(PROFILE)", "quick").split()

    def start(self) -> subprocess.Popen[str]:
        """A build in a process of its own, to be killed."""
        return subprocess.Popen(
            self.command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A group of its own, which a signal of the terminal reaches as a whole; a shell's background ignores it.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def build(self, *options: str) -> tuple[int, str]:
        """Exit status and what was printed."""
        if self.forks is None:
            command = [sys.executable, "-P", "-c", FORKS]
            self.forks = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        out = self.root.with_name("printed.txt")
        asked = {"command": [*self.command, *options], "environment": self.environment, "out": str(out)}
        self.forks.stdin.write(json.dumps(asked) + "\n")
        self.forks.stdin.flush()
        return int(self.forks.stdout.readline()), out.read_text()

    def stale(self) -> set[str]:
        """The pages that a build would run; `book` stands for the typesetting."""
        status, printed = self.build("--dry-run", "--quiet", "progress")
        assert status == 0, printed
        pages = set(re.findall(r"(?m)^ +output: book/runs/(\w+)\.ipynb$", printed))
        return pages | ({"book"} if "_build/typeset" in printed else set())

    def typeset(self, *names: str) -> tuple[int, str]:
        """Typeset these pages as they were run, without asking what is stale: exit status and what was printed."""
        command = [sys.executable, "-P", "-m", "paper.tools.typeset", *(names or ("one", "two", "other"))]
        made = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        return made.returncode, made.stdout + made.stderr

    def keep(self) -> None:
        """Remember the house as it is now, with its times."""
        shutil.copytree(self.root, self.kept, symlinks=True)

    def restore(self) -> None:
        """Take back whatever has happened since."""
        shutil.rmtree(self.root)
        shutil.copytree(self.kept, self.root, symlinks=True)

    def html(self, name: str) -> str:
        return self.read(f"_build/html/book/{name}.html")

    def processes(self) -> list[int]:
        """The processes that stand in this house."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"PYTHONPATH={self.root}".encode() in words:
                found.append(int(entry.name))
        return found

    def gone(self, seconds: float = 5) -> bool:
        """Whether no process is left after at most these seconds."""
        until = time.monotonic() + seconds
        while self.processes() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.processes()


def done(printed: str) -> set[str]:
    """The pages that ran; `book` stands for the typesetting."""
    ran = set(re.findall(r"(?m)^(\w+): done in", printed))
    return ran | ({"book"} if "The book is typeset" in printed else set())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with its book."""
    house = House(tmp_path_factory.mktemp("houses") / "user's house é")
    status, printed = house.build()
    assert status == 0, printed
    assert done(printed) == {"one", "two", "other", "book"}
    house.keep()
    yield house
    house.forks.stdin.close()
    house.forks.wait()


pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")]


@pytest.fixture
def house(built: House) -> Iterator[House]:
    """The built house; whatever a test does to it is taken back."""
    yield built
    assert built.gone()
    built.restore()


def test_nothing_changed_does_nothing(house):
    # The stamp is not part of the book: a build that has nothing to do may date it anew.
    built = [path for path in house.root.rglob("*") if "_build" in path.parts and path.name != "typeset"]
    before = {path: path.stat().st_mtime_ns for path in built}
    assert house.build() == (0, "")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_each_change_redoes_what_depends_on_it(house):
    assert house.stale() == set()
    house.replace("book/text.md", "# Text", "# Renamed")
    assert house.stale() == {"book"}
    house.replace("profiles/quick.yaml", "value: 2", "value: 3")
    assert house.stale() == {"two", "book"}
    house.replace("lib/words.py", "a word", "no word")
    assert house.stale() == {"one", "two", "book"}
    status, printed = house.build()
    assert (status, done(printed)) == (0, {"one", "two", "book"}), printed
    assert "no word 3" in house.html("runs/two") and "no word 1" in house.html("runs/one")
    # A title reaches every page, those that nobody edited, too.
    assert all("Renamed" in house.html(name) for name in ("index", "text", "runs/one", "runs/other"))
    assert house.stale() == set()
    (house.root / "results" / "evidence").mkdir(parents=True)
    house.write("results/evidence/other.csv", "a\n1\n")
    # Any page may show it: studies share what they have measured.
    assert house.stale() == {"one", "two", "other", "book"}


def test_file_edited_while_a_page_runs_makes_it_stale(house):
    code = "import time, lib.checks, os\nopen('begun', 'w').close()\nwhile os.path.exists('begun'): time.sleep(0.02)"
    write_notebook(house.root / "notebooks" / "other.ipynb", "Other", code)
    running = house.start()
    begun = house.root / "begun"  # where the build was called
    until = time.monotonic() + 400
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.02)
    house.replace("lib/checks.py", '"""Checks', '"""The checks')
    begun.unlink()
    printed, _ = running.communicate(timeout=300)
    assert "other" in done(printed)
    assert {"other", "book"} <= house.stale()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_failing_page_is_named_and_the_others_finish(house):
    before = house.html("runs/other")
    house.replace("lib/words.py", "'a word'", "'another word'")
    write_notebook(house.root / "notebooks" / "other.ipynb", "Other", "x = 1", "# why\nraise KeyError('lost\\nkey')")
    status, printed = house.build()
    assert status != 0 and done(printed) == {"one", "two"}
    lines = [line for line in printed.splitlines() if not re.match(r"\w+: done in", line)]
    assert lines[:3] == [
        "other: failed in cell [3], # why",
        "  KeyError: 'lost\\nkey'",
        "  the traceback is in _build/logs/other.log",
    ]
    assert lines[3:5] == ["Pages that failed: other.", "_build/html holds the book as it was before."]
    assert len(lines) <= 6, lines
    assert "raise KeyError" in house.read("_build/logs/other.log")
    assert house.html("runs/other") == before
    status, again = house.build()
    assert status != 0 and "other: failed in cell [3]" in again and done(again) == set()


@pytest.mark.parametrize(
    "name, old, new, sentence",
    [
        ("lib/words.py", "def word", "def def word", "lib/words.py:1 must be Python, but it is not: "),
        (
            "notebooks/other.ipynb",
            "print('other'",
            "print(('other'",
            "notebooks/other.ipynb (code cell 2, line 2) must",
        ),
        ("profiles/quick.yaml", "title: One}", "title: One, after: [two]}", "circle, but one → two → one was given."),
        ("profiles/quick.yaml", "after: [one]", "after: [two]", "circle, but two → two was given."),
        ("profiles/quick.yaml", "title: One", "titel: One", "but 'titel' was given."),
        ("profiles/quick.yaml", "value: 2", "valeu: 2", "valeu is not a parameter of note.ipynb"),
        ("_toc.yml", "book/text", "book/texts", "Files in _toc.yml must exist, but 'book/texts' was given."),
        ("_config.yml", "title:", "title: [", "_config.yml:"),
        ("profiles/quick.yaml", "pages:", "pages: [", "quick.yaml:4 must be YAML, but it is not: "),
    ],
)
def test_what_cannot_be_read_stops_the_build_by_name(house, name, old, new, sentence):
    house.replace(name, old, new)
    status, printed = house.build()
    assert status != 0
    assert sentence in printed and len(printed.splitlines()) == 1, printed


def test_killed_server_leaves_no_half_page_and_no_process(house):
    write_notebook(house.root / "notebooks" / "other.ipynb", "Other", "import time\ntime.sleep(100)")
    running = house.start()
    wait_for_kernel(house)
    (server,) = {pid for pid in house.processes() if b"serve" in _command(pid) and not _is_fork(pid)}
    os.kill(server, signal.SIGKILL)
    printed, _ = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "other: failed, because the process that ran it was killed" in printed
    assert house.gone()
    assert not [path for path in (house.root / "book" / "runs").iterdir() if "other" in path.name]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_build_leaves_no_process(house, number):
    """Ctrl-C, which reaches every process, is answered in one line; a second build in the meantime is refused."""
    write_notebook(house.root / "notebooks" / "other.ipynb", "Other", "import time\ntime.sleep(100)")
    running = house.start()
    wait_for_kernel(house)
    if number == signal.SIGINT:
        assert house.build() == (1, "Another build is running in this folder.\n")
        os.killpg(running.pid, number)
    else:
        running.kill()
    assert running.wait(timeout=60) != 0 and house.gone(20)  # a kernel that is interrupted has time to tidy up
    printed = running.stdout.read()
    if number == signal.SIGINT:
        assert "The build was interrupted." in printed and "Traceback" not in printed, printed


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", "0", "0", "0"]


def _is_fork(pid: int) -> bool:
    """Whether the process has the command line of its parent."""
    return _command(int(_stat(pid)[1])) == _command(pid)


def _is_kernel(pid: int) -> bool:
    """Whether this is a kernel: a fork of a fork that leads a session."""
    parent = int(_stat(pid)[1])
    return b"serve" in _command(pid) and int(_stat(pid)[3]) == pid and _is_fork(pid) and _is_fork(parent)


def wait_for_kernel(house: House) -> None:
    """Until a page is being run."""
    until = time.monotonic() + 400
    while not any(map(_is_kernel, house.processes())):
        assert time.monotonic() < until, "no kernel was forked"
        time.sleep(0.2)


def test_pages_are_the_same_in_a_fork_and_in_a_process_of_their_own(house):
    code = (
        "import sys, os, numpy\nprint(sys.argv[0], sys.path[0], os.path.basename(os.getcwd()), __name__)",
        "import matplotlib.pyplot as plt\nplt.plot([1, value]);",
        "import ipywidgets\nipywidgets.VBox([ipywidgets.IntSlider(value)])",
        "import random\nrandom.seed(value), random.random(), numpy.random.default_rng(value).random()",
        "!echo shell\nimport subprocess\nprint(subprocess.check_output(['echo', 'child']))",
        "class A: ...\n\nA, os.environ['MPLBACKEND'], sys.stdin.read() if sys.stdin.isatty() else ''",
    )
    write_notebook(house.root / "notebooks" / "both.ipynb", "Both", *code)
    words = [sys.executable, "-m", "paper.tools.warm", "both", "pages", "run", "notebooks/both.ipynb"]
    for name, more in (("plain", {}), ("warm", {"BOOK_BUILD": str(os.getpid())})):
        made = subprocess.run(
            [*words, f"{name}.ipynb", "-p", "value", "7"],
            cwd=house.root,
            env={**house.environment, **more, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stdout + made.stderr
    assert house.processes(), "nothing was forked"
    for pid in house.processes():
        os.kill(pid, signal.SIGKILL)
    plain, warm = (json.loads(house.read(f"{name}.ipynb")) for name in ("plain", "warm"))
    for page in (plain, warm):
        # How long it took, and on which machine, is no part of what it says.
        page["metadata"].pop("run", None)
    assert json.dumps(plain) == json.dumps(warm), "also in their order"


def test_build_does_without_a_server(house):
    """A machine on which no server can listen (another system, a locked-down container) is only slower."""
    house.replace("paper/tools/warm.py", 'sys.platform == "linux"', 'sys.platform == "none"')
    house.replace("lib/checks.py", '"""Checks', '"""The checks')
    status, printed = house.build()
    assert (status, "other" in done(printed)) == (0, True), printed


# ------------------------------------------------------------------------------------------------- typesetting
def test_a_report_names_the_page_of_a_finding_by_its_title():
    from paper.tools.typeset import cited

    told = "<li>Keep the gate. (fair_trial.many.depends)</li><li>Or not. (nowhere.known)</li>"
    assert cited(told).startswith('<li>Keep the gate. (<a href="fair_trial.html">')
    assert "fair_trial.many" not in cited(told) and cited(told).endswith("(nowhere.known)</li>")
    assert "<a" not in cited(told, ["fair_trial"])


def fails(house: House, warning: str, build: Callable[[], tuple[int, str]]) -> None:
    """The book fails with this warning, twice, and the last one stays."""
    before = {path: path.read_bytes() for path in (house.root / "_build" / "html").rglob("*.html")}
    for _ in range(2):
        status, printed = build()
        assert status != 0 and warning in printed, printed
        assert {path: path.read_bytes() for path in (house.root / "_build" / "html").rglob("*.html")} == before


def test_new_fault_on_a_page_is_noticed(house):
    house.replace("book/text.md", "Words.", "Words {ref}`nowhere` and {cite}`nobody`.")
    fails(house, "undefined label: 'nowhere'", house.build)


def test_lost_label_is_noticed_on_the_page_that_was_not_edited(house):
    house.replace("book/text.md", "(there)=", "(elsewhere)=")
    fails(house, "undefined label: 'there'", house.typeset)
    house.replace("book/text.md", "(elsewhere)=", "(there)=")
    assert house.typeset()[0] == 0


def test_lost_page_is_noticed_and_disappears(house):
    house.replace("_toc.yml", ", {file: book/runs/one}", "")
    fails(house, "unknown document: 'runs/one'", partial(house.typeset, "two", "other"))
    house.replace("book/index.md", ", {doc}`runs/one`", "")
    assert house.typeset("two", "other")[0] == 0
    assert not (house.root / "_build" / "html" / "book" / "runs" / "one.html").exists()
    assert "runs/one.html" not in house.html("text")


def test_profile_of_some_pages_makes_a_book_of_some_pages(house):
    house.replace("profiles/quick.yaml", "  other: {notebook: other}\n", "  extra: {notebook: note, title: Extra}\n")
    links = "[A](runs/other), [B](runs/other.ipynb), {doc}`runs/other`, {doc}`E <runs/other>`"
    house.replace("book/text.md", "Words.", f"{links}.\n\n```{{include}} runs/exports/other-answer.md\n```\n")
    notebook = nbformat.read(house.root / "notebooks" / "other.ipynb", as_version=4)
    notebook.cells[-1].metadata["tags"] = ["export-answer"]
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", {"text/markdown": "As committed."})]
    nbformat.write(notebook, house.root / "notebooks" / "other.ipynb")
    status, printed = house.build()
    assert status == 0 and {"extra", "book"} <= done(printed) and "without 1 pages of _toc.yml" in printed, printed
    assert "As committed." in house.html("text") and "runs/other" not in re.findall(
        'href="([^"]*)"', house.html("text")
    )
    assert (
        "Extra" in house.html("index")
        and not (house.root / "_build" / "html" / "book" / "runs" / "other.html").exists()
    )
