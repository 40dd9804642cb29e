"""What a computation's numbers depend on: one hash over the source that it can reach, and nothing else.

:func:`version` starts from the objects in use and follows the names that their code loads, by syntax trees and without
importing anything. Docstrings, comments, formatting, annotations and what errors say do not count, nor does code that
is not reached: other functions of the same module, and methods whose name the reached code never mentions. What does
count beside code is what a name stands for: ``from torch import relu as act`` differs from ``from torch import tanh as
act``.

Three limits. A method is kept by its *name*, whatever class it is called on. A name put together at run time
(``getattr(x, "a" + "b")``) is not seen. A ``Registry`` is not followed, or else every entry would be part of every
computation: the entry in use has to be given as a root.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import linecache
import os
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib import checks

#: The packages whose modules are followed where no others are named.
PACKAGES = ("lib", "paper")

_EVERYTHING, _EFFECTS = "*", "<module>"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_IMPORTS = (ast.Import, ast.ImportFrom)
# Without influence on what runs, or not the same in every version of Python.
_SKIPPED = {"ctx", "kind", "type_comment", "type_params", "type_ignores", "annotation", "returns", "simple"}

Chain = tuple[str, ...]


# ----------------------------------------------------------------------------------------------------- one syntax tree
class _Bare(ast.NodeTransformer):
    """A tree without docstrings, annotations and what only type checkers see.

    The annotation of a class's field stays, out of the dump: it says which class the field's methods are those of.
    """

    def __init__(self, in_class: bool = False) -> None:
        self._in_class = in_class

    def _inside(self, node: ast.AST, in_class: bool) -> ast.AST:
        outside, self._in_class = self._in_class, in_class
        self.generic_visit(node)
        self._in_class = outside
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _for_type_checkers(node) else node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is not None:
            node.value = self.visit(node.value)
        if self._in_class:
            return node
        return None if node.value is None else ast.Assign(targets=[node.target], value=node.value)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        # What an error says is read by people: no number depends on it.
        if isinstance(node.exc, ast.Call):
            node.exc.args = [part for part in node.exc.args if not _is_words(part)]
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._inside(node, False)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._inside(node, False)


def _is_words(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _for_type_checkers(node: ast.stmt) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def _dump(node: object) -> str:
    """A text of a bare tree that is the same in every version of Python; imports are left to the names they bind."""
    if isinstance(node, list):
        return "[" + ",".join(_dump(entry) for entry in node if not isinstance(entry, _IMPORTS)) + "]"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{ascii(node.value)}"
    if isinstance(node, ast.JoinedStr):
        return "JoinedStr" + _dump_pieces(node)
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in sorted(node._fields) if name not in _SKIPPED)
        inner = ",".join(f"{name}={_dump(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({inner})"
    return ascii(node)


def _dump_pieces(node: ast.JoinedStr) -> str:
    """An f-string: Pythons differ in how they cut its plain text, and in whether an empty format is one."""
    pieces: list[str] = []
    text = ""
    for value in node.values:
        if isinstance(value, ast.Constant):
            text += str(value.value)
            continue
        if text:
            pieces.append(ascii(text))
        text = ""
        if isinstance(value, ast.FormattedValue):
            spec = _dump_pieces(value.format_spec) if isinstance(value.format_spec, ast.JoinedStr) else "[]"
            pieces.append(f"({_dump(value.value)},{value.conversion},{spec})")
        else:
            pieces.append(_dump(value))
    return "[" + ",".join([*pieces, *([ascii(text)] if text else [])]) + "]"


@dataclass(frozen=True)
class _Import:
    """What an import binds a name to: a module, or an attribute of one."""

    module: str
    attribute: str | None = None


def _bindings(node: ast.stmt, package: str) -> Iterator[tuple[str, _Import]]:
    """The names that an import statement in a module of ``package`` binds; a star binds "*"."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            head = alias.name.split(".")[0]
            yield alias.asname or head, _Import(alias.name if alias.asname else head)
    elif isinstance(node, ast.ImportFrom):
        (module,) = _modules_of(node, package)
        for alias in node.names:
            yield alias.asname or alias.name, _Import(module, alias.name)


def _modules_of(node: ast.Import | ast.ImportFrom, package: str) -> set[str]:
    """The modules that an import statement names, in full."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    parts = package.split(".") if node.level else []
    parts = parts[: len(parts) - node.level + 1]
    return {".".join([*parts, *([node.module] if node.module else [])])}


def _stored(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes that bind names in one scope: not those inside inner functions, classes and comprehensions."""
    waiting = [(node, False) for node in nodes]
    while waiting:
        node, inner = waiting.pop()
        if isinstance(node, ast.NamedExpr):
            yield node.target
        if not inner:
            yield node
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        hidden = inner or isinstance(node, _COMPREHENSIONS)
        waiting.extend((child, hidden) for child in ast.iter_child_nodes(node))


def _bound(nodes: Iterable[ast.AST], package: str) -> dict[str, _Import | None]:
    """The names that the statements of one scope bind, with what an import binds them to."""
    found: dict[str, _Import | None] = {}
    outside: set[str] = set()
    for node in _stored(nodes):
        if isinstance(node, _IMPORTS):
            found.update(_bindings(node, package))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            outside.update(node.names)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                found.setdefault(node.id)
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            if node.name:
                found.setdefault(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.setdefault(node.rest)
    return {name: value for name, value in found.items() if name not in outside}


@dataclass
class _Uses:
    """What a piece of code says and mentions."""

    package: str
    text: str = ""
    #: Names that are not its own, each with the attributes taken from it: ("networks", "network").
    loads: set[Chain] = field(default_factory=set)
    #: The same where an import inside a function binds the name.
    imported: set[tuple[_Import, Chain]] = field(default_factory=set)
    #: Modules that an import inside a function runs, even if nothing uses the name.
    runs: set[str] = field(default_factory=set)
    #: Attributes and words that could be a method's name.
    names: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, nodes: Sequence[ast.AST], package: str, in_class: bool = False) -> _Uses:
        """Of statements (or expressions), which are made bare on the way."""
        found = cls(package)
        bare: list[ast.AST] = []
        for node in nodes:
            kept = _Bare(in_class).visit(node)
            bare.extend(kept if isinstance(kept, list) else [] if kept is None else [kept])
        found.text = _dump(bare)
        for node in bare:
            found._walk(node, {})
        return found

    def _load(self, chain: Chain, scope: Mapping[str, _Import | None]) -> None:
        if chain[0] not in scope:
            self.loads.add(chain)
        elif (source := scope[chain[0]]) is not None:
            self.imported.add((source, chain[1:]))

    def _walk(self, node: ast.AST, scope: Mapping[str, _Import | None]) -> None:
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Store):
                self._load((node.id,), scope)
        elif isinstance(node, ast.Attribute):
            self._attribute(node, scope)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value.isidentifier():
                self.names.add(node.value)
        elif isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            self._function(node, scope)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node, scope)
        elif isinstance(node, _IMPORTS):
            self.runs |= _modules_of(node, self.package)
        else:
            if isinstance(node, ast.Global):
                self.loads.update((name,) for name in node.names)
            elif isinstance(node, ast.MatchClass):
                self.names.update(node.kwd_attrs)
            for child in ast.iter_child_nodes(node):
                self._walk(child, scope)

    def _attribute(self, node: ast.Attribute, scope: Mapping[str, _Import | None]) -> None:
        chain: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        self.names.update(chain)
        if isinstance(base, ast.Name):
            self._load((base.id, *chain), scope)
        else:
            self._walk(base, scope)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Mapping[str, _Import | None]
    ) -> None:
        given = node.args
        outside = [*given.defaults, *(value for value in given.kw_defaults if value is not None)]
        body: list[Any] = [node.body]
        if not isinstance(node, ast.Lambda):
            outside += node.decorator_list
            body = node.body
        for part in outside:
            self._walk(part, scope)
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        inner = {**scope, **_bound(body, self.package), **{each.arg: None for each in every if each is not None}}
        for part in body:
            self._walk(part, inner)

    def _comprehension(self, node: Any, scope: Mapping[str, _Import | None]) -> None:
        targets = _bound([generator.target for generator in node.generators], self.package)
        inner = {**scope, **targets}
        self._walk(node.generators[0].iter, scope)
        parts = [generator.iter for generator in node.generators[1:]]
        parts += [condition for generator in node.generators for condition in generator.ifs]
        parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for part in parts:
            self._walk(part, inner)


# --------------------------------------------------------------------------------------------------------- one module
def _root_name(node: ast.AST) -> str | None:
    """The name that an expression such as ``name.attribute[0](...)`` starts from."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_registry(node: ast.stmt) -> bool:
    """Whether a statement makes a registry: ``X = Registry(...)`` or ``X: Registry[...] = ...``."""
    value = getattr(node, "value", None)
    made = [value.func] if isinstance(value, ast.Call) else []
    for kind in [*made, *([node.annotation] if isinstance(node, ast.AnnAssign) else [])]:
        kind = kind.value if isinstance(kind, ast.Subscript) else kind
        if getattr(kind, "id", getattr(kind, "attr", None)) == "Registry":
            return True
    return False


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


class _Source:
    """The definitions, imports and side effects at the top level of a module."""

    def __init__(self, module: str, path: Path) -> None:
        self.module = module
        self.path = path
        self.is_package = path.name == "__init__.py"
        self.package = module if self.is_package else module.rpartition(".")[0]
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, list[_Import]] = {}
        self.registries: set[str] = set()
        self.effects: list[ast.stmt] = []
        self._uses: dict[str, _Uses] = {}
        for node in ast.parse(path.read_bytes()).body:
            self._enter(node)

    def _enter(self, node: ast.stmt) -> None:
        if _for_type_checkers(node):
            for other in node.orelse:  # type: ignore[attr-defined]
                self._enter(other)
            return
        if _is_main(node):
            return
        names = _bound([node], self.package)
        for name, source in names.items():
            if source is not None:
                self.imports.setdefault(name, []).append(source)
        if isinstance(node, _IMPORTS):
            return
        targets = [*getattr(node, "targets", []), *([node.target] if isinstance(node, ast.AugAssign) else [])]
        changed = [target for target in targets if isinstance(target, ast.Attribute | ast.Subscript)]
        # TABLE["x"] = 1 belongs to TABLE.
        owners = {name for name in map(_root_name, changed) if name in self.definitions}
        for name in [*names, *owners]:
            self.definitions.setdefault(name, []).append(node)
        if _is_registry(node):
            self.registries.update(names)
        calls = any(isinstance(part, ast.Expr) and not isinstance(part.value, ast.Constant) for part in _stored([node]))
        if calls or (changed and not owners):
            self.effects.append(node)

    def methods(self, name: str) -> dict[str, list[ast.stmt]]:
        """The methods of a class by name (a property has up to three functions of one name)."""
        found: dict[str, list[ast.stmt]] = {}
        for node in self.definitions.get(name, []):
            for part in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(part, _FUNCTIONS):
                    found.setdefault(part.name, []).append(part)
        return found

    def uses(self, name: str) -> _Uses:
        """Of a definition (a class without its methods), of or of a method ``Class.method``."""
        if name not in self._uses:
            owner, _, method = name.partition(".")
            if method:
                self._uses[name] = _Uses.of(self.methods(owner)[method], self.package)
            else:
                self._uses[name] = self._definition(name)
        return self._uses[name]

    def _definition(self, name: str) -> _Uses:
        nodes = [self._header(node) if isinstance(node, ast.ClassDef) else node for node in self.definitions[name]]
        found = _Uses.of(nodes, self.package)
        if any(isinstance(node, ast.ClassDef) for node in nodes):
            # "__call__ = forward" in a class uses the method.
            found.names.update(chain[0] for chain in found.loads)
        return found

    @staticmethod
    def _header(node: ast.ClassDef) -> ast.ClassDef:
        body = [part for part in node.body if not isinstance(part, _FUNCTIONS)]
        return ast.ClassDef(node.name, node.bases, node.keywords, body, node.decorator_list)


_Stamp = tuple[int, int]
_SOURCES: dict[tuple[str, Path], tuple[_Stamp, _Source]] = {}


def _stamp(path: Path) -> _Stamp:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def _source(module: str, path: Path) -> _Source:
    """A module's source, parsed once a process unless the file changes."""
    stamp = _stamp(path)
    known = _SOURCES.get((module, path))
    if known is None or known[0] != stamp:
        known = _SOURCES[module, path] = (stamp, _Source(module, path))
    return known[1]


# ------------------------------------------------------------------------------------------------------- all modules
Homes = tuple[tuple[str, Path], ...]


def _homes(packages: Sequence[str]) -> Homes:
    """Where each package lies, without importing it; one that is not installed is left out."""
    found = []
    for name in sorted(packages):
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:
            spec = None
        if spec is not None and spec.submodule_search_locations:
            found.append((name, Path(next(iter(spec.submodule_search_locations)))))
    return tuple(found)


@dataclass(frozen=True, order=True)
class _Target:
    """A definition of a module (its name, everything or the side effects), or something that is not followed."""

    module: str
    name: str
    followed: bool = True

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


class _Modules:
    """Names of the followed packages, looked up in their source."""

    def __init__(self, homes: Homes) -> None:
        self._homes = dict(homes)
        self._sources: dict[str, _Source | None] = {}

    @property
    def files(self) -> list[Path]:
        """Every file that has been looked into."""
        return sorted(source.path for source in self._sources.values() if source is not None)

    def source(self, module: str) -> _Source | None:
        """The source of a module of the packages, or None."""
        if module not in self._sources:
            head, *rest = module.split(".")
            home = self._homes.get(head)
            base = home.joinpath(*rest) if home else None
            paths = [base / "__init__.py", base.with_suffix(".py")] if base else []
            path = next((path for path in paths if path.is_file()), None)
            self._sources[module] = _source(module, path) if path else None
        return self._sources[module]

    def find(self, module: str, chain: Chain, own: bool = True, seen: frozenset[str] = frozenset()) -> list[_Target]:
        """What ``chain`` means at the top level of ``module``.

        ``own``: as its own code says it, where a name that is not there is a builtin; otherwise, as an attribute of it.
        """
        source = self.source(module)
        if source is None:
            return [_Target(module, ".".join(chain), followed=False)]
        if not chain:
            return [_Target(module, _EVERYTHING)]
        name, rest = chain[0], chain[1:]
        found = [_Target(module, name, name not in source.registries)] if name in source.definitions else []
        if (here := f"{module}:{name}") not in seen:
            seen |= {here}
            for bound in source.imports.get(name, []):
                found += self.follow(bound, rest, seen)
            for star in [] if found else source.imports.get(_EVERYTHING, []):
                found += self.find(star.module, chain, True, seen) if self.source(star.module) else []
        if found or own:
            return found
        if source.is_package and self.source(f"{module}.{name}"):
            return self.find(f"{module}.{name}", rest, False, seen)
        return [_Target(module, "__getattr__" if "__getattr__" in source.definitions else _EFFECTS)]

    def follow(self, bound: _Import, rest: Chain, seen: frozenset[str] = frozenset()) -> list[_Target]:
        """What an imported name with the attributes ``rest`` stands for."""
        return self.find(bound.module, (*([bound.attribute] if bound.attribute else []), *rest), False, seen)

    def edges(self, module: str, uses: _Uses) -> dict[str, list[_Target]]:
        """Every name that a piece of code of ``module`` uses, with what it means."""
        found = {".".join(chain): self.find(module, chain) for chain in uses.loads}
        for bound, rest in uses.imported:
            found[f"{bound.module}.{bound.attribute or ''}.{'.'.join(rest)}"] = self.follow(bound, rest)
        found.update({run: [_Target(run, _EFFECTS)] for run in uses.runs if self.source(run)})
        return {chain: targets for chain, targets in found.items() if targets}


def _text(uses: _Uses, meanings: Mapping[str, Iterable[object]]) -> str:
    """What is hashed of a piece of code: itself, and what its names stand for."""
    return "\n".join([uses.text, *(f"{name}={sorted(map(str, meanings[name]))}" for name in sorted(meanings))])


@dataclass(frozen=True)
class _Reach:
    """The text of every reached piece by name, and the files that decided it."""

    texts: Mapping[str, str]
    files: Sequence[Path]


class _Walk:
    """Everything that can be reached from some definitions, given some names of methods in use."""

    def __init__(self, modules: _Modules, names: Iterable[str]) -> None:
        self._modules = modules
        self._names = set(names)
        self._classes: set[tuple[str, str]] = set()
        self._seen: set[_Target] = set()
        self.texts: dict[str, str] = {}

    def run(self, targets: Iterable[_Target]) -> None:
        """To the fixed point: more code may mention more methods."""
        waiting = list(targets)
        while waiting:
            while waiting:
                waiting += self._visit(waiting.pop())
            waiting = [target for target in self._called() if target not in self._seen]

    def _called(self) -> Iterator[_Target]:
        for module, name in sorted(self._classes):
            source = self._modules.source(module)
            for method in source.methods(name) if source else []:
                if method in self._names or (method.startswith("__") and method.endswith("__")):
                    yield _Target(module, f"{name}.{method}")

    def _visit(self, target: _Target) -> list[_Target]:
        source = self._modules.source(target.module)
        if target in self._seen or not target.followed or source is None:
            return []
        self._seen.add(target)
        parent = target.module.rpartition(".")[0]
        # A module runs when it is first imported, after the packages that it is in.
        found = [_Target(target.module, _EFFECTS), *([_Target(parent, _EFFECTS)] if parent else [])]
        if target.name == _EVERYTHING:
            return found + [_Target(target.module, name) for name in source.definitions.keys() - source.registries]
        if any(isinstance(node, ast.ClassDef) for node in source.definitions.get(target.name, [])):
            self._classes.add((target.module, target.name))
        uses = self._effects(source) if target.name == _EFFECTS else source.uses(target.name)
        if target.name == _EFFECTS and not uses.text.strip("[]"):
            return found
        edges = self._modules.edges(target.module, uses)
        self._names |= uses.names
        self.texts[str(target)] = _text(uses, edges)
        return found + [each for targets in edges.values() for each in targets]

    def _effects(self, source: _Source) -> _Uses:
        """The side effects of importing a module, without entries into a registry."""
        kept = []
        for node in source.effects:
            value = node.value if isinstance(node, ast.Expr) else next(iter(getattr(node, "targets", [])), None)
            name = _root_name(value) if value is not None else None
            targets = self._modules.find(source.module, (name,)) if name else []
            if not any(self._modules.source(target.module) and not target.followed for target in targets):
                kept.append(node)
        return _Uses.of(kept, source.package)


_Memo = dict[tuple[frozenset[_Target], frozenset[str], Homes], tuple[list[_Stamp], _Reach]]
_REACHES: _Memo = {}


def _reach(targets: frozenset[_Target], names: frozenset[str], homes: Homes) -> _Reach:
    """All that can be reached from ``targets``, found once a process unless a file changes."""
    key = (targets, names, homes)
    if key in _REACHES:
        stamps, found = _REACHES[key]
        if all(path.exists() for path in found.files) and stamps == [_stamp(path) for path in found.files]:
            return found
    modules = _Modules(homes)
    walk = _Walk(modules, names)
    walk.run(targets)
    found = _Reach(walk.texts, modules.files)
    _REACHES[key] = ([_stamp(path) for path in found.files], found)
    return found


# ------------------------------------------------------------------------------------------------------- live objects
def _refuse(given: object) -> checks.ParameterError:
    shown = getattr(given, "__qualname__", None) or type(given).__qualname__
    return checks.ParameterError(f"root must be something whose source can be found, but {shown} was given.")


def _is_installed(module: str) -> bool:
    """Whether a module comes with Python or from a package that was installed: its code is left to its version."""
    head = module.partition(".")[0]
    if head == "__main__":
        return False
    if head in sys.stdlib_module_names:
        return True
    loaded = sys.modules.get(head)
    places = [getattr(loaded, "__file__", None), *getattr(loaded, "__path__", [])]
    return any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places if place)


def _functions(cls: type) -> Iterator[types.FunctionType]:
    """The functions that are written in the body of a class."""
    for value in vars(cls).values():
        for part in (value, *(getattr(value, name, None) for name in ("__func__", "fget", "fset", "func"))):
            if isinstance(part, types.FunctionType):
                part = inspect.unwrap(part)
                if part.__qualname__.startswith(f"{cls.__qualname__}.") and part.__module__ == cls.__module__:
                    yield part


def _trees(given: type | types.FunctionType) -> Iterator[tuple[ast.Module, int | None]]:
    """Syntax trees in which a function or class may be found, each with a line inside it where one is known."""
    functions = [given] if isinstance(given, types.FunctionType) else list(_functions(given))
    sources: list[tuple[str, int | None]] = []
    for function in functions:
        file = function.__code__.co_filename
        linecache.checkcache(file)
        sources.append(("".join(linecache.getlines(file, function.__globals__)), function.__code__.co_firstlineno))
    if isinstance(given, type):
        # A class without functions does not know its file if it is from a notebook: the last cell that defines it.
        try:
            sources.append((textwrap.dedent(inspect.getsource(given)), None))
        except (OSError, TypeError):
            cells = [file for file in reversed(list(linecache.cache)) if not os.path.exists(file)]
            sources += [("".join(linecache.getlines(cell)), None) for cell in cells]
    for source, line in sources:
        try:
            yield ast.parse(source), line
        except SyntaxError:
            continue


def _written(given: type | types.FunctionType) -> list[ast.AST]:
    """The syntax tree of a function or class that is not of the packages."""
    name = given.__name__
    kinds = (ast.ClassDef,) if isinstance(given, type) else (ast.Lambda,) if name == "<lambda>" else _FUNCTIONS
    for tree, line in _trees(given):
        found: list[ast.AST] = []
        for node in ast.walk(tree):
            if isinstance(node, kinds) and getattr(node, "name", name) == name:
                first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])
                if (
                    line is None
                    or first == line
                    or (isinstance(given, type) and first < line <= (node.end_lineno or 0))
                ):
                    found.append(node)
        if found:
            # Two lambdas on a line cannot be told apart: both count. Of two classes the later one is in use.
            return found if name == "<lambda>" else found[-1:]
    raise _refuse(given)


def _surroundings(given: type | types.FunctionType) -> dict[str, object]:
    """The values of the names that are not a function's or class's own."""
    functions = [given] if isinstance(given, types.FunctionType) else list(_functions(given))
    module = sys.modules.get(given.__module__)
    values: dict[str, object] = dict(vars(module)) if module and not functions else {}
    for function in functions:
        values.update(function.__globals__)
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                values[name] = cell.cell_contents
            except ValueError:
                continue
    return values


def _literal(value: object) -> str | None:
    """A constant as text, or None if there is more to the value."""
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return ascii(value)
    if type(value) in (list, tuple):
        inner = [_literal(entry) for entry in value]  # type: ignore[attr-defined]
        return None if None in inner else f"{type(value).__name__}[{','.join(map(str, inner))}]"
    if type(value) is dict:
        pairs = [(_literal(key), _literal(entry)) for key, entry in value.items()]
        return None if any(None in pair for pair in pairs) else f"dict{pairs}"
    return None


class _Roots:
    """Where the walk starts: what some objects are made of."""

    def __init__(self, homes: Homes) -> None:
        self._homes = dict(homes)
        self._modules = _Modules(homes)
        self._seen: dict[int, object] = {}
        self.targets: set[_Target] = set()
        self.names: set[str] = set()
        #: The text of every function and class from outside the packages by name.
        self.foreign: dict[str, str] = {}
        self.files: set[Path] = set()

    def add(self, given: object) -> None:
        """A function, class or method, or an instance for its class, with those that it holds."""
        if id(given) in self._seen or _literal(given) is not None:
            return
        self._seen[id(given)] = given
        for part in self._parts(given):
            self.add(part)

    def name(self, given: str) -> None:
        """A definition by its name, "module:qualified name"."""
        module, _, qualified = given.partition(":")
        source = self._modules.source(module)
        if source is None or qualified.split(".")[0] not in source.definitions:
            raise checks.ParameterError(
                f"root must be an object or the name of a definition (module:name), but {given!r} was given."
            )
        self._own(module, qualified)

    def _parts(self, given: object) -> Iterable[object]:
        """The objects that a composed one consists of; a definition is noted instead."""
        if isinstance(given, functools.partial):
            return [given.func, *given.args, *given.keywords.values()]
        if type(given) is dict:
            return list(given.values())
        if type(given) in (list, tuple, set, frozenset):
            return list(given)  # type: ignore[call-overload]
        if isinstance(given, types.MethodType):
            self.names.add(given.__name__)
            return [given.__self__, given.__func__]
        if isinstance(given, property):
            return [given.fget]
        if isinstance(given, functools.cached_property):
            return [given.func]
        if isinstance(given, staticmethod | classmethod):
            return [given.__func__]
        if isinstance(given, types.ModuleType):
            if self._modules.source(given.__name__):
                self.targets.add(_Target(given.__name__, _EVERYTHING))
            return []
        if not isinstance(given, type | types.FunctionType):
            fields = dataclasses.fields(given) if dataclasses.is_dataclass(given) else ()  # type: ignore[arg-type]
            held = given if isinstance(given, tuple) else [getattr(given, part.name, None) for part in fields]
            inner = inspect.unwrap(given) if isinstance(given, functools._lru_cache_wrapper) else type(given)
            return [inner, *held]
        return self._definition(inspect.unwrap(given) if isinstance(given, types.FunctionType) else given)

    def _definition(self, given: Any) -> Iterable[object]:
        module = given.__module__
        if module.partition(".")[0] in self._homes:
            source = self._modules.source(module)
            if source is None or given.__qualname__.split(".")[0] not in source.definitions:
                raise _refuse(given)
            self._own(module, given.__qualname__)
            return []
        if _is_installed(module):
            return []
        return self._foreign(given)

    def _own(self, module: str, qualified: str) -> None:
        name, *inner = qualified.split(".")
        self.targets.add(_Target(module, name))
        self.names.update(part for part in inner if part != "<locals>")

    def _foreign(self, given: type | types.FunctionType) -> Iterable[object]:
        """A function or class from a notebook or a file of the reader's: its text is noted, what it uses is given."""
        uses = _Uses.of(_written(given), given.__module__.rpartition(".")[0])
        edges: dict[str, list[str]] = {}
        found: list[object] = list(given.__mro__[1:]) if isinstance(given, type) else []
        values = _surroundings(given)
        for chain in uses.loads:
            if chain[0] in values:
                edges[".".join(chain)] = self._meaning(values[chain[0]], chain[1:], found)
        for bound, rest in uses.imported:
            chain = (*([bound.attribute] if bound.attribute else []), *rest)
            edges[".".join([bound.module, *chain])] = self._attribute(bound.module, chain, found)
        self.targets.update(_Target(run, _EFFECTS) for run in uses.runs)
        self.names |= uses.names
        self.foreign[f"{given.__module__}:{given.__qualname__}"] = _text(uses, edges)
        for function in [given] if isinstance(given, types.FunctionType) else _functions(given):
            file = Path(function.__code__.co_filename)
            self.files.update([file] if file.is_file() else [])
        return found

    def _meaning(self, value: object, rest: Chain, found: list[object]) -> list[str]:
        """What a name of a foreign piece stands for, in words; objects to go on with are added to ``found``."""
        if isinstance(value, types.ModuleType):
            return self._attribute(value.__name__, rest, found)
        if (text := _literal(value)) is not None:
            return [text]
        found.append(value)
        named = value if hasattr(value, "__qualname__") else type(value)
        return [f"{getattr(named, '__module__', '')}:{named.__qualname__}"]

    def _attribute(self, module: str, rest: Chain, found: list[object]) -> list[str]:
        """The same for an attribute of a module, which may be a file of the reader's."""
        value = sys.modules.get(module)
        if rest and hasattr(value, rest[0]) and not self._modules.source(module) and not _is_installed(module):
            return self._meaning(getattr(value, rest[0]), rest[1:], found)
        targets = self._modules.find(module, rest, own=False)
        self.targets.update(targets)
        return [str(target) for target in targets]


def _reached(roots: Sequence[object], packages: Sequence[str]) -> _Reach:
    homes = _homes(packages)
    start = _Roots(homes)
    for root in roots:
        start.name(root) if isinstance(root, str) else start.add(root)
    found = _reach(frozenset(start.targets), frozenset(start.names), homes)
    return _Reach({**found.texts, **start.foreign}, sorted({*found.files, *start.files}))


def version(*roots: object, packages: Sequence[str] = PACKAGES) -> str:
    """A hash (12 hexadecimal digits) over the code that ``roots`` can reach in ``packages``, and nothing else.

    Roots are functions, classes, methods, ``functools.partial``, instances (their class, and those of a dataclass's
    fields) or names such as ``"lib.hardware.sweep:Sweep.accuracy"``. Functions and classes from a notebook or a file of
    the reader's count with their source; without any a :class:`~lib.checks.ParameterError` says so. The code is that
    of the files as they are now, and the hash is the same in every version of Python.
    """
    digest = hashlib.sha256()
    for name, text in sorted(_reached(roots, packages).texts.items()):
        digest.update(f"{name}\n{len(text)}\n{text}\n".encode())
    return digest.hexdigest()[:12]


def reached(*roots: object, packages: Sequence[str] = PACKAGES) -> list[str]:
    """The names ("module:qualified name") of everything that :func:`version` hashes, sorted."""
    return sorted(_reached(roots, packages).texts)


def files(*roots: object, packages: Sequence[str] = PACKAGES) -> list[Path]:
    """The source files that decide :func:`version`, sorted: those reached, and those that names were looked up in."""
    return list(_reached(roots, packages).files)
