"""Which code computed a number: a hash over what a computation can reach, and over nothing else.

:func:`version` follows names from a function or class through the syntax trees of our packages. Docstrings, comments,
layout and annotations do not count, nor does any definition that is not reached, so that a sentence, a figure or a
finding may change while the numbers stand. Nothing is imported for it.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from lib import checks

#: The packages whose code is followed; that of others is known by its version, not by its source.
PACKAGES = ("lib", "paper")
_IGNORED = {"ctx", "type_comment", "type_params", "kind", "lineno", "col_offset", "end_lineno", "end_col_offset"}
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
_REGISTRY = "Registry"
_ELSEWHERE = "ELSEWHERE"
# Where the methods stand that dataclass writes: they follow from the source of the class.
_WRITTEN = ("<string>", "dataclasses.py")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PASSIVE = set("object NamedTuple Enum StrEnum Protocol Generic ABC ValueError float dict list".split())

Node = ast.stmt
Place = tuple[str, str]  # a definition: module and the name in it ("" for the module itself)


@dataclass
class _Module:
    """What a file defines at its top level, and where the names come from that it imports."""

    name: str
    path: Path
    definitions: dict[str, list[Node]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    effects: list[Node] = field(default_factory=list)


def _absolute(node: ast.ImportFrom, module: str, package: bool) -> str:
    """The module that an import names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if package else 0)]
    return ".".join([*parts, node.module] if node.module else parts)


def _imports(nodes: Iterable[ast.AST], module: str, package: bool) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Local name → (module, name in it or None for the module itself)."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    yield alias.asname, (alias.name, None)
                else:
                    # ``import a.b`` binds ``a``; the rest is found as its attributes.
                    first = alias.name.partition(".")[0]
                    yield first, (first, None)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, package)
            for alias in node.names:
                yield alias.asname or alias.name, (base, alias.name)


def _type_checking(node: ast.AST) -> bool:
    """Is this ``if TYPE_CHECKING:``, which never runs?"""
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Name | ast.Attribute) and getattr(test, "id", getattr(test, "attr", "")) == (
        "TYPE_CHECKING"
    )


def _elsewhere(node: object) -> bool:
    """Is this ``if key in ELSEWHERE: return ...``, which hands over to an entry of a registry?

    It says nothing of what is computed where the key is not in there; and where it is, the entry is given as a root.
    """
    test = node.test if isinstance(node, ast.If) and not node.orelse else None
    if not (isinstance(test, ast.Compare) and [type(one) for one in test.ops] == [ast.In]):
        return False
    asked = test.comparators[0]
    named = getattr(asked, "id", getattr(asked, "attr", "")) == _ELSEWHERE
    return named and isinstance(node, ast.If) and [type(one) for one in node.body] == [ast.Return]


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Tuple | ast.List):
        for entry in node.elts:
            yield from _targets(entry)
    elif isinstance(node, ast.Starred):
        yield from _targets(node.value)


def _names(node: Node) -> list[str]:
    """The names that a statement at the top level defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [name for target in node.targets for name in _targets(target)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return list(_targets(node.target))
    return []


def _read(name: str, path: Path, source: str) -> _Module:
    found = _Module(name, path)
    package = path.name == "__init__.py"

    def take(nodes: Iterable[Node]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.imports.update(_imports([node], name, package))
            elif _type_checking(node):
                take(node.orelse)  # type: ignore[attr-defined]
            elif isinstance(node, ast.If | ast.Try | ast.With):
                # Definitions under a condition are definitions all the same.
                for part in ("body", "orelse", "finalbody"):
                    take(getattr(node, part, []))
                for handler in getattr(node, "handlers", []):
                    take(handler.body)
            elif names := _names(node):
                for one in names:
                    found.definitions.setdefault(one, []).append(node)
            elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                found.effects.append(node)

    take(ast.parse(source).body)
    return found


class _Code:
    """The source of some packages below ``root``, parsed as it is needed."""

    def __init__(self, packages: tuple[str, ...], root: Path) -> None:
        self.packages, self.root = packages, root
        self._known: dict[str, tuple[tuple[int, int], _Module] | None] = {}
        # Since the last :meth:`look_again`, as a walk asks for the same things thousands of times: the files by the
        # name of their module, what was looked for, and where names are defined.
        self._files: dict[str, tuple[Path, tuple[int, int]]] | None = None
        self._looked: dict[str, _Module | None] = {}
        self._resolved: dict[tuple[str, str], Place | None] = {}

    def look_again(self) -> None:
        """Files may have changed."""
        self._files = None
        self._looked.clear()
        self._resolved.clear()

    def _found(self) -> dict[str, tuple[Path, tuple[int, int]]]:
        found = {}
        for package in self.packages:
            for folder, _, names in os.walk(self.root / package):
                inner = Path(folder).relative_to(self.root).parts
                for name in (one for one in names if one.endswith(".py")):
                    path = Path(folder, name)
                    stat = path.stat()
                    module = ".".join(inner if name == "__init__.py" else (*inner, name[:-3]))
                    # A module goes before a package of its name.
                    if name != "__init__.py" or module not in found:
                        found[module] = (path, (stat.st_mtime_ns, stat.st_size))
        return found

    def module(self, name: str) -> _Module | None:
        """The module of that name, if it is one of ours."""
        if name not in self._looked:
            self._looked[name] = self._look(name)
        return self._looked[name]

    def _look(self, name: str) -> _Module | None:
        if self._files is None:
            self._files = self._found()
        if name not in self._files:
            return None
        path, stamp = self._files[name]
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            known = (stamp, _read(name, path, path.read_text(encoding="utf-8")))
            self._known[name] = known
        return known[1]

    def resolve(self, module: str, name: str) -> Place | None:
        """Where a name of a module is defined, through imports and re-exports; None outside our packages."""
        if (module, name) not in self._resolved:
            self._resolved[module, name] = self._resolve(module, name)
        return self._resolved[module, name]

    def _resolve(self, module: str, name: str) -> Place | None:
        seen = set()
        while (module, name) not in seen:
            seen.add((module, name))
            here = self.module(module)
            if here is None:
                return None
            if name in here.definitions:
                return module, name
            if name in here.imports:
                target, inner = here.imports[name]
                if inner is None:
                    return (target, "") if self.module(target) else None
                if self.module(f"{target}.{inner}") and name not in getattr(self.module(target), "definitions", {}):
                    return f"{target}.{inner}", ""
                module, name = target, inner
                continue
            return (f"{module}.{name}", "") if self.module(f"{module}.{name}") else None
        return None


def _without_text(body: list[Node]) -> list[Node]:
    """Statements without their docstring."""
    first = body[0] if body else None
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if text else body


def _dump(node: object) -> str:
    """The tree as text, alike on every Python: fields that are empty or that versions differ in are left out."""
    if isinstance(node, ast.AST):
        parts = []
        for name, value in ast.iter_fields(node):
            if name in _IGNORED or value is None or value == []:
                continue
            if isinstance(node, _FUNCTIONS) and name == "returns":
                continue
            if name == "annotation":
                # Only what makes a class attribute of a field can matter.
                if isinstance(node, ast.AnnAssign) and "ClassVar" in _dump(value):
                    parts.append("ClassVar")
                continue
            if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                value = _without_text(value)
            parts.append(f"{name}={_dump(value)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(_dump(one) for one in node if not _elsewhere(one))}]"
    return repr(node)


class _Uses(ast.NodeVisitor):
    """What a piece of code mentions: names, attribute chains, identifier-like words, and what it imports.

    Annotations do not count themselves, but they say of which class something is whose methods are called.
    """

    def __init__(self, nodes: Iterable[ast.AST], module: str, package: bool) -> None:
        self.names: set[str] = set()
        self.chains: set[tuple[str, ...]] = set()
        self.attributes: set[str] = set()
        self.imports: dict[str, tuple[str, str | None]] = {}
        self._module, self._package = module, package
        for node in nodes:
            self.visit(node)

    def add(self, other: _Uses) -> None:
        """What another piece mentions too."""
        self.names |= other.names
        self.chains |= other.chains
        self.attributes |= other.attributes
        self.imports |= other.imports

    def visit_If(self, node: ast.If) -> None:
        if _type_checking(node):
            for child in node.orelse:
                self.visit(child)
        elif not _elsewhere(node):
            self.generic_visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        notes = [one.annotation for one in given if one is not None]
        for part in filter(None, [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, *notes]):
            self.visit(part)
        for part in _without_text(node.body):  # type: ignore[assignment]
            self.visit(part)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases, *node.keywords, *_without_text(node.body)]:
            self.visit(part)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imports.update(_imports([node], self._module, self._package))

    visit_ImportFrom = visit_Import

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.attributes.add(node.attr)
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self.chains.add((inner.id, *reversed(parts)))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        # What getattr may be asked for.
        if isinstance(node.value, str) and _IDENTIFIER.match(node.value):
            self.attributes.add(node.value)


#: What was read of a piece of code, for as long as its module is known: many walks come by.
_TOLD: WeakKeyDictionary[ast.AST, tuple[str, _Uses]] = WeakKeyDictionary()


def _told(node: ast.AST, module: str, package: bool) -> tuple[str, _Uses]:
    """A piece of a module as text, and what it mentions."""
    if node not in _TOLD:
        _TOLD[node] = (_dump(node), _Uses([node], module, package))
    return _TOLD[node]


def _is_registry(nodes: Iterable[Node]) -> bool:
    """Is a name bound to a registry, whose entries are no part of what only looks one of them up?"""
    for node in nodes:
        value, note = getattr(node, "value", None), getattr(node, "annotation", None)
        called = value.func if isinstance(value, ast.Call) else None
        for part in (called, note):
            part = part.value if isinstance(part, ast.Subscript) else part
            if _REGISTRY in (getattr(part, "id", ""), getattr(part, "attr", "")):
                return True
    return False


class _Method(NamedTuple):
    """A method of a reached class that nothing reached has mentioned yet."""

    label: str
    module: str
    package: bool
    node: Node


class _Walk:
    """The closure of some definitions: which parts of which definitions can be reached from them."""

    def __init__(self, code: _Code) -> None:
        self.code = code
        self.pieces: dict[str, str] = {}
        self.modules: set[str] = set()
        self.mine: set[object] = set()
        self.attributes: set[str] = set()
        self._waiting: dict[str, list[_Method]] = {}
        self._seen: set[Place] = set()
        self._todo: list[Place] = []

    def run(self) -> None:
        """Follow everything that was added."""
        while self._todo:
            self._definition(*self._todo.pop())

    @functools.cached_property
    def version(self) -> str:
        """Twelve digits of all pieces, once they are there."""
        text = "\n".join(f"{label} {self.pieces[label]}" for label in sorted(self.pieces))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def add(self, module: str, name: str) -> None:
        """Reach a definition by the name that it has in a module."""
        place = self.code.resolve(module, name) if name else (module, "")
        if place is not None and place not in self._seen:
            self._seen.add(place)
            self._todo.append(place)

    def _definition(self, module: str, name: str) -> None:
        here = self.code.module(module)
        if here is None:
            return
        package = here.path.name == "__init__.py"
        if module not in self.modules:
            self.modules.add(module)
            if here.effects:
                self.piece(f"{module}:", here.effects, module, package)
        nodes = here.definitions.get(name, [])
        if not nodes or _is_registry(nodes):
            return
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                self._class(module, node, package)
            else:
                self.piece(f"{module}:{name}", [node], module, package)

    def _class(self, module: str, node: ast.ClassDef, package: bool) -> None:
        """Bases, decorators and assignments at once; a method when something reached mentions its name.

        A framework calls the methods of a class that stands on one of its own (an autograd function, a module): then
        all of them count.
        """
        body = _without_text(node.body)
        called = not all(self._known(module, base) for base in node.bases)
        plain = [part for part in body if not isinstance(part, _FUNCTIONS)]
        kept = ast.ClassDef(
            name=node.name, bases=node.bases, keywords=node.keywords, body=plain, decorator_list=node.decorator_list
        )
        self.piece(f"{module}:{node.name}", [kept], module, package)
        for part in (part for part in body if isinstance(part, _FUNCTIONS)):
            name = part.name
            if called or (name.startswith("__") and name.endswith("__")) or name in self.attributes:
                self.piece(f"{module}:{node.name}.{name}", [part], module, package)
            else:
                waiting = _Method(f"{module}:{node.name}.{name}", module, package, part)
                self._waiting.setdefault(name, []).append(waiting)

    def _known(self, module: str, base: ast.expr) -> bool:
        """Is this base class one of ours, or one that calls nothing by itself?"""
        base = base.value if isinstance(base, ast.Subscript) else base
        name = getattr(base, "id", getattr(base, "attr", ""))
        return name in _PASSIVE or (isinstance(base, ast.Name) and self.code.resolve(module, base.id) is not None)

    def piece(self, label: str, nodes: list[Any], module: str, package: bool) -> None:
        told = [_told(node, module, package) for node in nodes]
        self.pieces[label] = f"{self.pieces.get(label, '')}[{','.join(text for text, _ in told)}]"
        found = _Uses((), module, package)
        for _, one in told:
            found.add(one)
        for name in found.names:
            self._name(module, name, found.imports, ())
        for first, *rest in found.chains:
            self._name(module, first, found.imports, tuple(rest))
        for name in found.attributes - self.attributes:
            self.attributes.add(name)
            for waiting in self._waiting.pop(name, []):
                self.piece(waiting.label, [waiting.node], waiting.module, waiting.package)

    def _name(self, module: str, name: str, local: dict[str, tuple[str, str | None]], rest: tuple[str, ...]) -> None:
        if name in local:
            target, inner = local[name]
            place = self.code.resolve(target, inner) if inner else ((target, "") if self.code.module(target) else None)
        else:
            place = self.code.resolve(module, name)
        # An attribute of a module is a definition of it, or a module below it.
        while place is not None and place[1] == "" and rest:
            place, rest = self.code.resolve(place[0], rest[0]), rest[1:]
        if place is not None and place[1]:
            self.add(*place)
        elif place is None:
            # What a name from elsewhere stands for: relu and tanh under one name are two things.
            here = self.code.module(module)
            origin = local.get(name) or (here.imports.get(name) if here and name not in here.definitions else None)
            if origin is not None:
                self.pieces[f"{module}:{name}"] = f"from {origin[0]} import {origin[1]}"


def _located(root: object) -> Iterator[object]:
    """The functions and classes behind a root: partials, bound methods and instances taken apart."""
    if isinstance(root, functools.partial):
        yield from _located(root.func)
        for value in [*root.args, *root.keywords.values()]:
            yield from _instances(value)
    elif isinstance(root, MethodType):
        owner = root.__self__
        yield (owner if isinstance(owner, type) else type(owner), root.__name__)
        if not isinstance(owner, type):
            yield from _instances(owner)
    elif isinstance(root, type | FunctionType):
        yield root
        # What was put into a class of ours at run time.
        for owner in getattr(root, "__mro__", ()):
            if owner.__module__.partition(".")[0] in PACKAGES:
                yield from (f for f in vars(owner).values() if isinstance(f, FunctionType) and _readers(f.__module__))
    else:
        yield from _instances(root)


def _instances(value: object) -> Iterator[object]:
    """The classes of an instance and of what it is made of."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _instances(entry)
        return
    if isinstance(value, type | FunctionType | MethodType | functools.partial):
        yield from _located(value)
        return
    if type(value).__module__ in ("builtins", "pathlib", "numpy", "torch"):
        return
    yield from _located(type(value))
    if is_dataclass(value):
        for one in fields(value):
            yield from _instances(getattr(value, one.name))


def _walk(found: Iterable[object], code: _Code) -> _Walk:
    code.look_again()
    walk = _Walk(code)
    for one in found:
        thing, method = one if isinstance(one, tuple) else (one, "")
        module, name = thing.__module__, thing.__qualname__
        if module.partition(".")[0] in code.packages and "<locals>" not in name:
            owner, _, inner = name.partition(".")
            walk.add(module, owner)
            # Methods of these names count in whatever class is reached.
            walk.attributes.update(filter(None, (inner, method)))
        else:
            _foreign(walk, thing)
    walk.run()
    return walk


def _foreign(walk: _Walk, thing: Any) -> None:
    """A class or function of the reader's as it is now: its source, the values it holds, and what it uses of both."""
    if thing in walk.mine:
        return
    walk.mine.add(thing)
    label, held = f":{thing.__qualname__}", {}
    try:
        walk.piece(label, ast.parse(textwrap.dedent(inspect.getsource(thing))).body, thing.__module__, False)
        if isinstance(thing, type):
            held = dict(vars(thing)) | {f"<{base.__qualname__}>": base for base in thing.__mro__[1:]}
        else:
            held = dict(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True))
            held = {key: cell.cell_contents for key, cell in held.items()}
            found = {word: thing.__globals__.get(word) for word in _loaded(thing.__code__)}
            # A global list or set is what a function notes things in: it may grow while the code stays what it is.
            held |= {word: value for word, value in found.items() if not isinstance(value, list | set)}
            held["()"] = [thing.__defaults__, thing.__kwdefaults__]
        for key, value in sorted(held.items()):
            inner = [getattr(value, name, None) for name in ("fget", "__func__", "func")]
            value = next(filter(None, inner), value)
            home, magic = getattr(value, "__module__", None) or "", key.startswith("__")
            if isinstance(value, type | FunctionType):
                if home.partition(".")[0] in walk.code.packages:
                    walk.add(home, value.__qualname__.partition(".")[0])
                elif _readers(home) and not (magic and Path(inspect.getfile(value)).name in _WRITTEN):
                    _foreign(walk, value)
            elif isinstance(value, ModuleType):
                for word in thing.__code__.co_names:
                    walk.add(value.__name__, word)
            elif not magic and not callable(value):
                walk.pieces[f"{label}:{key}"] = json.dumps(value, sort_keys=True)
    except (OSError, TypeError, ValueError, SyntaxError) as error:
        raise checks.ParameterError(
            f"code must have a source that can be read, but {thing.__qualname__!r} without one was given."
        ) from error


def _loaded(code: CodeType) -> set[str]:
    """The global names that a function loads, those inside it included."""
    own = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    return own.union(*(_loaded(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _readers(module: str) -> bool:
    """Is this a module of the reader's, neither installed nor Python's own?"""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module.partition(".")[0] not in sys.stdlib_module_names and "site-packages" not in Path(file).parts


@functools.cache
def _ours() -> _Code:
    return _Code(PACKAGES, Path(__file__).resolve().parents[1])


@functools.cache
def _once(found: tuple[object, ...]) -> _Walk:
    # Once a process: what was imported stays what it is.
    return _walk(found, _ours())


def _reach(found: tuple[object, ...]) -> _Walk:
    known = _once(found)
    # What is the reader's may have changed since.
    return _walk(found, _ours()) if known.mine else known


def _found(roots: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(dict.fromkeys(one for root in roots for one in _located(root)))


def reached(*roots: object) -> list[str]:
    """The definitions that count, as "module:name", sorted: what :func:`version` is a hash of.

    ``roots`` are functions, classes, bound methods, partials, or instances, which count by the classes that they and
    their fields are of. A name bound to a ``Registry`` is not followed: the entry in use is given as a root. So is what
    an ``if key in ELSEWHERE: return ...`` hands over to, and the branch itself is no part of the hash.
    """
    return sorted(_reach(_found(roots)).pieces)


def version(*roots: object) -> str:
    """Twelve digits that change when code that a computation can reach changes, whatever the version of Python.

    Code outside our packages counts where it is a root itself (a class in a notebook), with what it uses of its like
    and the plain values that it holds; if its source or a value cannot be read, that is a
    :class:`~lib.checks.ParameterError`.
    """
    return _reach(_found(roots)).version
