"""From notebooks to pages: run them with parameters, keep them clean, and know what they depend on.

::

    python -m paper.tools.pages run notebooks/perturbation.ipynb out.ipynb -p perturbation drift -p seeds 3
    python -m paper.tools.pages refresh [NAME ...]      # execute notebooks/NAME.ipynb in place with its defaults
    python -m paper.tools.pages check [NAME ...]        # what would make a committed notebook or the profiles fail

Papermill executes; this module adds what it leaves open: parameters are checked before anything is written,
the output appears under its name only when it is complete, and nothing that changes from run to run or from
machine to machine (times, paths, random identifiers) stays in it.
"""

from __future__ import annotations

import argparse
import ast
import base64
import functools
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from lib.checks import ParameterError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"

#: The packages of this repository.
PACKAGES = ("lib", "paper")

#: Lines of code that a cell may have; a page is read by people who came for the answer.
LONGEST_CELL = 12

# A picture, or a sentence with measured numbers, that another page shows too: tag its cell `export-NAME`.
_EXPORT = re.compile(r"export-([a-z0-9_-]+)")


# ------------------------------------------------------------------------------------------------ profiles


@dataclass(frozen=True)
class Page:
    """One page of the book: a notebook, its parameters, and the pages whose stored results it reuses."""

    name: str
    notebook: str
    title: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    threads: int = 1  # CPU threads of its job; 0: all
    first: bool = False  # starts before other pages that could run

    @property
    def source(self) -> Path:
        return NOTEBOOKS / f"{self.notebook}.ipynb"


def profile(path: Path) -> dict[str, Page]:
    """The pages of a profile file, with every parameter known to its notebook."""
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.yaml")))
        raise ParameterError(f"PROFILE must be one of {known}, but {path.stem!r} was given.")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["pages"]
    pages = {name: Page(name, **{**entry, "after": tuple(entry.get("after", ()))}) for name, entry in entries.items()}
    for page in pages.values():
        if lost := [name for name in page.after if name not in pages]:
            raise ParameterError(f"after of {page.name} must be pages of {path.name}, but {lost[0]!r} was given.")
        check_parameters(page.source, page.parameters)
    return pages


@functools.cache
def evidence() -> dict[str, Page]:
    """The pages whose evidence is committed, with the parameters that it was measured with; none without a checkout."""
    path = ROOT / "profiles" / "evidence.yaml"
    return profile(path) if path.is_file() else {}


def parameters(notebook: Path) -> dict[str, str]:
    """The notebook's parameters and the text of their defaults, read from the cell tagged ``parameters``."""
    import papermill

    if not notebook.is_file():
        raise ParameterError(f"NOTEBOOK must be a file, but {str(notebook)!r} was given.")
    try:
        found = papermill.inspect_notebook(str(notebook))
    except (ValueError, nbformat.reader.NotJSONError) as error:
        refusal = f"NOTEBOOK must be a Jupyter notebook with a Python kernel, but {str(notebook)!r} was given."
        raise ParameterError(refusal) from error
    return {name: entry["default"] for name, entry in found.items()}


def check_parameters(notebook: Path, given: Mapping[str, Any]) -> None:
    """Refuse a name that the notebook does not have; papermill alone would only warn."""
    known = parameters(notebook)
    for name in given:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ParameterError(f"{name} is not a parameter of {notebook.name}; the parameters are {listed}.")


def value(text: str) -> Any:
    """A value from the command line: a Python literal, ``true``, ``false``, ``null``, or else the text."""
    plain = {"true": True, "false": False, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# -------------------------------------------------------------------------------------------- dependencies


def _module_file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imports(code: str, package: str) -> Iterable[str]:
    """Modules of ``lib`` that the code imports, anywhere in it; ``package`` resolves relative imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def sources(notebook: Path) -> list[Path]:
    """The files of ``lib`` that the notebook reaches through imports, with the data files of their packages.

    A change in any other file cannot change the page, so the build leaves the page alone.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    # IPython's own syntax (magics, shell commands) is no Python and imports nothing of ours.
    code = "\n".join(re.sub(r"(?m)^\s*[%!].*$", "", cell.source) for cell in cells if cell.cell_type == "code")
    found: set[Path] = set()
    todo = list(_imports(code, ""))
    while todo:
        name = todo.pop()
        if name.partition(".")[0] not in PACKAGES:
            continue
        todo += [name.rpartition(".")[0]] if "." in name else []
        path = _module_file(name)
        if path is None or path in found:
            continue
        found.add(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo += _imports(path.read_text(encoding="utf-8"), package)
    packages = {path.parent for path in found} - {ROOT / name for name in PACKAGES}
    data = {
        path
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")
    }
    return sorted(found | data)


# ---------------------------------------------------------------------------------------- clean notebooks


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Take out what differs between runs and machines: times, paths, versions, random identifiers."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for index, cell in enumerate(notebook.cells):
        for key in ("papermill", "execution", "collapsed", "scrolled", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
        cell["id"] = cell.get("id") or f"cell-{index}"
    return nbformat.from_dict(json.loads(_number_widgets(json.dumps(notebook), _widget_models(notebook))))


_MODEL = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


def _number_widgets(text: str, models: Mapping[str, int]) -> str:
    return _MODEL.sub(lambda found: f"{models[found[0]]:032x}" if found[0] in models else found[0], text)


def _widget_models(notebook: NotebookNode) -> dict[str, int]:
    """A number for each widget's random identity, in the order of the outputs and of their references."""
    states = [state.get("state", {}) for state in notebook.metadata.get("widgets", {}).values()]
    contents = {model: json.dumps(entry, sort_keys=True) for state in states for model, entry in state.items()}
    numbers: dict[str, int] = {}

    def number(text: str) -> None:
        for model in _MODEL.findall(text):
            if model in contents and model not in numbers:
                numbers[model] = len(numbers)
                number(contents[model])

    number(json.dumps([cell.get("outputs", []) for cell in notebook.cells]))
    while rest := [model for model in contents if model not in numbers]:
        # Links, which nothing refers to: in the order of what they say.
        number(min(rest, key=lambda model: _number_widgets(contents[model], numbers)))
    return numbers


def problems(notebook: NotebookNode) -> list[str]:
    """What a committed notebook must not be: one sentence each, empty when it is in order."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = _parameter_problems(code)
    for number, cell in enumerate(code, 1):
        where, tags = f"code cell {number}", set(cell.metadata.get("tags", []))
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
        if not lines:
            found.append(f"{where} is empty")
        if not cell.get("execution_count"):
            # nbval would not compare such a cell, and pass.
            found.append(f"{where} has no execution count")
        if len(lines) > LONGEST_CELL and "parameters" not in tags:
            found.append(f"{where} has {len(lines)} lines, more than {LONGEST_CELL}: the algorithm belongs in lib")
        if forbidden := tags & {"raises-exception", "nbval-raises-exception", "nbval-skip", "skip-execution"}:
            found.append(f"{where} is tagged {', '.join(sorted(forbidden))}")
        if re.search(r"\blive\(", cell.source) and "remove-output" not in tags:
            found.append(f"{where} needs a kernel (live) and is not tagged remove-output")
        found += [f"{where}: {problem}" for output in cell.outputs for problem in _output_problems(output)]
    state = [model for kind in notebook.metadata.get("widgets", {}).values() for model in kind["state"].values()]
    return found + [f"widget state: {problem}" for problem in _text_problems(json.dumps(state))]


def _parameter_problems(code: Sequence[NotebookNode]) -> list[str]:
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        return ["the first code cell, and no other, must be tagged parameters"]
    assigned = [
        node
        for node in ast.parse(tagged[0].source).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
    ]
    try:
        for node in assigned:
            ast.literal_eval(node.value)  # type: ignore[arg-type]
    except ValueError:
        assigned = []
    if len(assigned) != len(ast.parse(tagged[0].source).body) or not assigned:
        return ["the parameters cell must hold plain assignments of literal values"]
    return []


def _output_problems(output: NotebookNode) -> Iterable[str]:
    if output.output_type == "error":
        yield "a stored error"
    if output.output_type == "stream":
        if output.name == "stderr":
            yield "a stored output on stderr"
        yield from _text_problems(output.text)
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            yield from _text_problems(content if isinstance(content, str) else json.dumps(content))


_UNWANTED = {
    "a progress bar": r"\d%\|| (?:it/s|s/it)\b|\r",
    "a warning": r"\b[A-Z]\w*Warning\b|\bWARNING\b",
    "a traceback": r"Traceback \(most recent call last\)",
    "the path of a machine": (
        r"(?<![\w/.:<])/(?:home|root|Users|tmp|work|mnt|opt|usr|var|private|content|workspace|builds?)/\w"
        r"|\b[A-Z]:\\\\?Users|site-packages|file://"
    ),
}


def _text_problems(text: str) -> Iterable[str]:
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "base64", text)
    for what, pattern in _UNWANTED.items():
        if found := re.search(pattern, text):
            yield f"{what} ({text[max(0, found.start() - 20) : found.end() + 20]!r})"
    if str(ROOT) in text:
        yield "the path of this repository"


# --------------------------------------------------------------------------------------------------- runs


def _execute(notebook: Path, given: Mapping[str, Any]) -> NotebookNode:
    """Run in a kernel, in the notebook's folder; a refused parameter comes back as a ParameterError."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    # A CPU job has one thread unless told otherwise; the kernel inherits it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / notebook.name
        try:
            papermill.execute_notebook(
                str(notebook),
                str(temporary),
                dict(given),
                cwd=str(notebook.parent),
                progress_bar=False,
                kernel_name="python3",
                start_timeout=600,  # a busy machine takes its time
                # The kernel warns on the terminal that it is reached over a local socket, and calls it an error
                # when it is shut down while it is still busy starting or stopping.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
        except PapermillExecutionError as failed:
            if failed.ename == ParameterError.__name__:
                raise ParameterError(failed.evalue) from None
            raise
        return tidy(nbformat.read(temporary, as_version=4))


def _write(notebook: NotebookNode, out: Path) -> None:
    nbformat.validate(notebook)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}.tmp")
    try:
        nbformat.write(notebook, temporary)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def _retitle(notebook: NotebookNode, title: str) -> None:
    """One notebook may serve several pages: each gets its own first heading."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"(?m)^# ", cell.source):
            cell.source = re.sub(r"(?m)^# .*$", lambda _: f"# {title}", cell.source, count=1)
            return
    raise ParameterError(f"title must be given to a notebook with a heading, but {title!r} was given to one without.")


def exports(notebook: NotebookNode) -> dict[str, bytes]:
    """What cells tagged ``export-NAME`` show, as files: ``NAME.png`` (a picture) or ``NAME.md`` (Markdown)."""
    found = {}
    for cell in notebook.cells:
        for matched in filter(None, map(_EXPORT.fullmatch, cell.metadata.get("tags", []))):
            data = {kind: text for output in cell.get("outputs", []) for kind, text in output.get("data", {}).items()}
            if "image/png" in data:
                found[f"{matched[1]}.png"] = base64.b64decode(data["image/png"])
            elif "text/markdown" in data:
                found[f"{matched[1]}.md"] = f"{data['text/markdown']}\n".encode()
    return found


def run(notebook: Path, out: Path, given: Mapping[str, Any], title: str | None = None) -> None:
    """Execute ``notebook`` with the parameters ``given`` and write ``out``, complete or not at all."""
    check_parameters(notebook, given)
    if out.suffix != ".ipynb" or out.is_dir():
        raise ParameterError(f"OUT must be the name of a notebook (.ipynb), but {str(out)!r} was given.")
    # Asked before the run, since it is long; made after it, since a refused run leaves nothing behind.
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise ParameterError(f"OUT must be in a folder that can be written, but {str(out)!r} was given.")
    done = _execute(notebook, given)
    if title is not None:
        _retitle(done, title)
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, content in exports(done).items():
        (out.parent / "exports").mkdir(exist_ok=True)
        (out.parent / "exports" / f"{out.stem}-{name}").write_bytes(content)
    _write(done, out)


def refresh(notebook: Path) -> list[str]:
    """Execute a notebook in place with its defaults, unless the result has problems; returns those."""
    done = _execute(notebook, {})
    if not (found := problems(done)):
        _write(done, notebook)
    return found


def prune(folder: Path, names: Iterable[str]) -> None:
    """Remove from a folder of executed pages those that are not among ``names``, with what they exported."""
    kept = tuple(names)
    for path in [*folder.glob("*.ipynb"), *folder.glob("exports/*")]:
        page = path.stem if path.suffix == ".ipynb" else path.name.partition("-")[0]
        if page not in kept:
            path.unlink()


# ------------------------------------------------------------------------------------------ command line


def _named(names: Sequence[str]) -> list[Path]:
    chosen = [NOTEBOOKS / f"{Path(name).stem}.ipynb" for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in chosen:
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in NOTEBOOKS.glob("*.ipynb")))
            raise ParameterError(f"NAME must be one of {known or 'no notebook yet'}, but {path.stem!r} was given.")
    return chosen


def _run_command(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    print(f"{options.out.stem}: started", flush=True)
    given = {name: value(text) for name, text in options.parameters}
    run(options.notebook.absolute(), options.out.absolute(), given, options.title)
    print(f"{options.out.stem}: done in {time.perf_counter() - began:.0f} s", flush=True)
    return 0


def _refresh_command(options: argparse.Namespace) -> int:
    failed = 0
    for notebook in _named(options.names):
        began = time.perf_counter()
        found = refresh(notebook)
        failed += bool(found)
        seconds = f"{time.perf_counter() - began:.0f} s"
        print(f"{notebook.stem}: " + ("; ".join([*found, "left as it was"]) if found else f"refreshed in {seconds}"))
    return min(failed, 1)


def _export_command(options: argparse.Namespace) -> int:
    (notebook,) = _named([options.name])
    found = exports(nbformat.read(notebook, as_version=4))
    if options.export not in found:
        listed = ", ".join(found) or "nothing"
        raise ParameterError(f"EXPORT must be one of {listed}, but {options.export!r} was given.")
    options.out.write_bytes(found[options.export])
    return 0


def _check_command(options: argparse.Namespace) -> int:
    chosen = {path: problems(nbformat.read(path, as_version=4)) for path in _named(options.names)}
    for path, found in chosen.items():
        print(f"{path.stem}: " + ("; ".join(found) or "in order"))
    for path in sorted((ROOT / "profiles").glob("*.yaml")):
        print(f"profile {path.stem}: {len(profile(path))} pages, all parameters known")
    return int(any(chosen.values()))


def _prune_command(options: argparse.Namespace) -> int:
    prune(ROOT / "book" / "runs", options.names)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 done, 1 failed, 2 refused."""
    parser = argparse.ArgumentParser(
        prog="python -m paper.tools.pages", description="Run and keep the book's notebooks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="execute a notebook with parameters and write the result elsewhere")
    command.add_argument("notebook", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter",
    )
    command.add_argument("--title", help="the page's first heading, instead of the notebook's")
    command.set_defaults(run=_run_command)
    for name, function, text in (
        ("refresh", _refresh_command, "execute notebooks in place with their default parameters"),
        ("check", _check_command, "say what is wrong with notebooks and profiles"),
        ("prune", _prune_command, "remove from book/runs all pages but these"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("names", nargs="*", metavar="NAME")
        command.set_defaults(run=function)
    command = commands.add_parser("export", help="write a picture or sentence that a committed notebook exports")
    command.add_argument("name", metavar="NAME")
    command.add_argument("export", metavar="EXPORT", help="for example bars.png")
    command.add_argument("out", type=Path, metavar="OUT")
    command.set_defaults(run=_export_command)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ParameterError as refused:
        print(refused, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
