"""From notebooks to pages: run them with parameters, and keep them clean.

::

    python -m paper.tools.pages run notebooks/perturbation.ipynb out.ipynb -p perturbation drift -p seeds 3
    python -m paper.tools.pages refresh [NAME ...]      # execute notebooks/NAME.ipynb in place with its defaults
    python -m paper.tools.pages check [NAME ...]        # what would make a committed notebook or the profiles fail

Papermill executes; this module adds what it leaves open: parameters are checked before anything is written,
the output appears under its name only when it is complete, and nothing that changes from run to run or from
machine to machine (times, paths, random identifiers) stays in it, except what a run tells of itself: its metadata
under ``run``, of which :mod:`paper.tools.ways` makes the end of a page.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.checks import ParameterError
from paper import notes
from paper.tools import caches, early
from paper.tools.profiles import check_parameters, profile, value
from paper.tools.sources import NOTEBOOKS, ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode  # imported where it is needed: a refusal need not wait a second for it

#: Lines of code that a cell may have; a page is read by people who came for the answer.
LONGEST_CELL = 12

# A picture, or a sentence with measured numbers, that another page shows too: tag its cell `export-NAME`.
_EXPORT = re.compile(r"export-([a-z0-9_-]+)")


# ---------------------------------------------------------------------------------------- clean notebooks


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Take out what differs between runs and machines: times, paths, versions, random identifiers."""
    import nbformat

    for key in ("papermill", "run"):
        notebook.metadata.pop(key, None)
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


def _verbatim(path: Path) -> str:
    """A path for papermill, which puts parameters in the place of names in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _execute(
    notebook: Path, given: Mapping[str, Any], kernels: type | None = None, told: dict[str, Any] | None = None
) -> NotebookNode:
    """Run in a kernel, in this process's folder; a refused parameter comes back as a ParameterError.

    What the run notes of itself (:mod:`paper.notes`) is put into ``told``.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    # A CPU job has one thread unless told otherwise; the kernel inherits it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    caches.use_own()
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / notebook.name
        # The kernel inherits this, too.
        os.environ[notes.PLACE] = str(Path(folder) / "notes")
        try:
            papermill.execute_notebook(
                _verbatim(notebook),
                _verbatim(temporary),
                dict(given),
                progress_bar=False,
                kernel_name="python3",
                start_timeout=600,  # a busy machine takes its time
                # The kernel warns on the terminal that it is reached over a local socket, and calls it an error
                # when it is shut down while it is still busy starting or stopping.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                **({} if kernels is None else {"kernel_manager_class": kernels}),
            )
        except PapermillExecutionError as failed:
            if failed.ename == ParameterError.__name__:
                raise ParameterError(failed.evalue) from None
            raise
        except DeadKernelError as died:
            # Papermill names the cell of every other failure.
            code = [cell for cell in nbformat.read(temporary, as_version=4).cells if cell.cell_type == "code"]
            begun = [cell.source for cell in code if cell.metadata.get("papermill", {}).get("start_time")]
            if not begun:
                raise
            what = "the notebook's process ended in the middle, perhaps for want of memory"
            raise PapermillExecutionError(len(begun), len(begun), begun[-1], "DeadKernelError", what, []) from died
        finally:
            del os.environ[notes.PLACE]
        if told is not None:
            told.update(notes.noted(Path(folder) / "notes"))
        return tidy(nbformat.read(temporary, as_version=4))


def _write(notebook: NotebookNode, out: Path) -> None:
    import nbformat

    nbformat.validate(notebook)
    temporary = out.with_name(f".{os.getpid()}.tmp")
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
    """What cells tagged ``export-NAME`` show, as files: ``NAME.png`` (the first picture) or ``NAME.md`` (Markdown)."""
    found = {}
    for cell in notebook.cells:
        for matched in filter(None, map(_EXPORT.fullmatch, cell.metadata.get("tags", []))):
            shown = [output.get("data", {}) for output in cell.get("outputs", [])]
            data = {kind: text for one in reversed(shown) for kind, text in one.items()}
            if "image/png" in data:
                found[f"{matched[1]}.png"] = base64.b64decode(data["image/png"])
            elif "text/markdown" in data:
                found[f"{matched[1]}.md"] = f"{data['text/markdown']}\n".encode()
    return found


def _check_out(notebook: Path, out: Path) -> None:
    """Refuse what cannot be written, or must not be: before the run, since it is long."""
    try:
        fits = out.suffix == ".ipynb" and not out.is_dir()
        # By file and not by name: there are links, and file systems to which A and a are one.
        source = out.exists() and out.samefile(notebook)
        committed = out.parent.exists() and out.parent.samefile(NOTEBOOKS)
    except OSError as error:  # a name that is too long, a circle of links
        given = f"{_one_line(str(out))!r} was given ({error.strerror})"
        raise ParameterError(f"OUT must be a name that a file can have, but {given}.") from None
    if not fits:
        raise ParameterError(f"OUT must be the name of a notebook (.ipynb), but {str(out)!r} was given.")
    if source or committed:
        allowed = "another file than NOTEBOOK and outside of notebooks/ (`refresh` runs those in place)"
        raise ParameterError(f"OUT must be {allowed}, but {str(out)!r} was given.")
    folder = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise ParameterError(f"OUT must be in a folder that can be written, but {str(out)!r} was given.") from None


def run(
    notebook: Path, out: Path, given: Mapping[str, Any], title: str | None = None, kernels: type | None = None
) -> None:
    """Execute ``notebook`` with the parameters ``given`` and write ``out``, complete or not at all.

    An ``out`` that exists is replaced. Relative paths among the parameters are below this process's folder.
    ``kernels`` is a kernel manager to start the kernel with, instead of Jupyter's own.
    """
    check_parameters(notebook, given)
    _check_out(notebook, out)
    if kernels is None:  # a build's kernel has imported everything, and refuses as soon
        early.check(notebook, given)
    began, told = time.perf_counter(), dict[str, Any]()
    done = _execute(notebook, given, kernels, told)
    seconds = time.perf_counter() - began + told.pop("saved", 0.0)
    # In what is made and never in what is committed: it differs from machine to machine.
    done.metadata["run"] = {"notebook": notebook.stem, "parameters": dict(given), "seconds": round(seconds), **told}
    if title is not None:
        _retitle(done, title)
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, content in exports(done).items():
        (out.parent / "exports").mkdir(exist_ok=True)
        (out.parent / "exports" / f"{out.stem}-{name}").write_bytes(content)
    _write(done, out)


def failure(error: Any) -> tuple[str, str]:
    """Where a run failed and with what, one line each."""
    if isinstance(error, ParameterError):
        return "by a refusal", str(error)
    if not hasattr(error, "exec_count"):  # not papermill's: the kernel died, or the disk is full
        return "outside of its cells", _one_line(f"{type(error).__name__}: {error}")
    first = next(filter(None, (line.strip() for line in error.source.splitlines())), "")
    return f"in cell [{error.exec_count}], {_one_line(first)}", _one_line(f"{error.ename}: {error.evalue}")


def _one_line(text: str, longest: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def _report(name: str, error: BaseException, log: Path) -> None:
    """Say in three lines that a page failed, where and with what, and keep the whole traceback in ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(_COLOURS.sub("", "".join(traceback.format_exception(error))), encoding="utf-8")
    where, what = failure(error)
    print(f"{name}: failed {where}\n  {what}\n  the traceback is in {os.path.relpath(log)}", flush=True)


def refresh(notebook: Path) -> list[str]:
    """Execute a notebook in place with its defaults, unless the result has problems; returns those."""
    done = _execute(notebook, {})
    if not (found := problems(done)):
        _write(done, notebook)
    return found


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
    given = {name: value(text) for name, text in options.parameters}
    name = options.out.stem
    try:
        run(options.notebook.absolute(), options.out.absolute(), given, options.title, options.kernels)
    except Exception as error:
        if options.log is None and isinstance(error, ParameterError):
            raise
        _report(name, error, options.log or options.out.with_name(f"{options.out.name}.log"))
        return 1
    print(f"{name}: done in {time.perf_counter() - began:.0f} s", flush=True)
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
    import nbformat

    (notebook,) = _named([options.name])
    found = exports(nbformat.read(notebook, as_version=4))
    if options.export not in found:
        listed = ", ".join(found) or "nothing"
        raise ParameterError(f"EXPORT must be one of {listed}, but {options.export!r} was given.")
    options.out.write_bytes(found[options.export])
    return 0


def _check_command(options: argparse.Namespace) -> int:
    import nbformat

    chosen = {path: problems(nbformat.read(path, as_version=4)) for path in _named(options.names)}
    for path, found in chosen.items():
        print(f"{path.stem}: " + ("; ".join(found) or "in order"))
    for path in sorted((ROOT / "profiles").glob("*.yaml")):
        print(f"profile {path.stem}: {len(profile(path))} pages, all parameters known")
    return int(any(chosen.values()))


def main(arguments: Sequence[str] | None = None, kernels: type | None = None) -> int:
    """The command line, with kernels of the manager ``kernels``; returns 0: done, 1: failed, 2: refused."""
    parser = argparse.ArgumentParser(
        prog="python -m paper.tools.pages", description="Run and keep the book's notebooks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="execute a notebook with parameters and write the result elsewhere")
    command.add_argument("notebook", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter"
    )
    command.add_argument("--title", help="the page's first heading, instead of the notebook's")
    command.add_argument("--log", type=Path, help="where the traceback of a failure is kept (OUT.log)")
    command.set_defaults(run=_run_command, kernels=kernels)
    for name, function, text in (
        ("refresh", _refresh_command, "execute notebooks in place with their default parameters"),
        ("check", _check_command, "say what is wrong with notebooks and profiles"),
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
