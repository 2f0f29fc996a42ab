"""What is wrong with a plugin: its hook implementations after the import, and what its source reveals before."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import attrs

from ._settings import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_MARKED = re.compile(r"^@(?:\w+\.)?hookimpl\b.*\n(?:@.*\n)*(async )?def (\w+)\(([^()]*)\)", re.MULTILINE)
_IMPORT = re.compile(r"^(?:import|from) +(\w+)", re.MULTILINE)


@functools.cache
def hook_arguments() -> Mapping[str, tuple[str, ...]]:
    """Return the arguments of every hook by its name, in the order of ``flow.hookspecs``."""
    from . import hookspecs  # here, because it imports pluggy

    functions = {name: item for name, item in vars(hookspecs).items() if name.startswith("flow_")}
    return {name: tuple(inspect.signature(function).parameters) for name, function in functions.items()}


def hook_problem(hook: str, arguments: Collection[str], *, is_async: bool) -> str | None:
    """Say what is wrong with an implementation of `hook` that takes `arguments`, or return ``None``."""
    known = hook_arguments()
    if hook not in known:
        return f"{hook} is not a hook of flow: {did_you_mean(hook, known) or 'see flow plugins hooks'}"
    if is_async:
        return f"{hook} is async, but hooks are synchronous and return objects whose methods are async"
    if unknown := [argument for argument in arguments if argument not in known[hook]]:
        return f"{hook} has no argument {unknown[0]}, only {', '.join(known[hook])}"
    return None


@attrs.frozen
class Examination:
    """The hooks that a plugin implements, what makes it unusable, and what is merely odd."""

    hooks: tuple[str, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


def examine(plugin: object, required: str = "") -> Examination:
    """Look at the hook implementations of an imported `plugin`; it must implement the hook `required`, or any."""
    hooks: list[str] = []
    problems: list[str] = []
    remarks: list[str] = []
    for name, function, bound in _functions(plugin):
        marks = vars(function)
        if "flow_impl" in marks:
            hooks.append(marks["flow_impl"].get("specname") or name)
            problem = _problem_of(hooks[-1], function, marks["flow_impl"], bound)
            problems += [problem] if problem else []
        elif "flow_spec" not in marks and (name in hook_arguments() or did_you_mean(name, hook_arguments(), 0.9)):
            remarks.append(f"{name} lacks the decorator @hookimpl, so it is never called")
    if not problems and (required not in hooks if required else not hooks):
        problems = remarks or [f"it implements no {required or 'hook'}"]
    return Examination(tuple(hooks), tuple(problems), tuple(remarks))


def _functions(plugin: object) -> Iterator[tuple[str, FunctionType, bool]]:
    """Yield names, functions and whether the first parameter is bound, without running properties."""
    is_module = isinstance(plugin, ModuleType)
    for name in vars(plugin) if is_module else dir(plugin):  # the members of a module need no search
        item: Any = vars(plugin)[name] if is_module else inspect.getattr_static(plugin, name)
        if isinstance(item, (staticmethod, classmethod)):
            function, bound = item.__func__, isinstance(item, classmethod)
        else:
            function, bound = item, not isinstance(plugin, (ModuleType, type))
        if isinstance(function, FunctionType) and (name.startswith("flow_") or "flow_impl" in vars(function)):
            yield name, function, bound


def _problem_of(hook: str, function: FunctionType, marks: Mapping[str, Any], bound: bool) -> str | None:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    # An argument with a default is not passed by pluggy, so it may have any name.
    arguments = [item.name for item in parameters if item.kind in positional and item.default is item.empty]
    if inspect.isgeneratorfunction(function) and not (marks.get("wrapper") or marks.get("hookwrapper")):
        return f"{hook} yields, but is not marked @hookimpl(wrapper=True)"
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return hook_problem(hook, arguments[1:] if bound else arguments, is_async=is_async)


@attrs.frozen
class Source:
    """What the source of a plugin module tells: the hooks it defines, and why importing it cannot work."""

    path: Path | None = None
    hooks: tuple[str, ...] = ()
    problem: str = ""


def read_source(module: str, *, hooks: bool) -> Source:
    """Read the source of `module` without importing anything; what is defined elsewhere stays unknown.

    :param hooks: whether the module is looked through for hook implementations.
    """
    path, problem = locate(module)
    if path is None or path.suffix != ".py":
        return Source(path, problem=problem)
    try:
        text = path.read_text(encoding="utf-8")
        # Parsing thirty plugins takes longer than all the rest of a listing: only what looks odd is parsed.
        problems = _problems_in(ast.parse(text), path, hooks) if _looks_odd(text, hooks) else iter(())
    except (OSError, SyntaxError, ValueError) as error:
        return Source(path, problem=f"{path} cannot be read: {error}")
    return Source(path, tuple(match[2] for match in _MARKED.finditer(text)) if hooks else (), next(problems, ""))


def locate(module: str) -> tuple[Path | None, str]:
    """Return the file of `module`, or ``None`` and why there is none; packages above it are not imported."""
    name, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None, ""
    while spec is not None and rest:
        child, _, rest = rest.partition(".")
        name = f"{name}.{child}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations or [])
    if spec is None:
        return None, f"the module {name} is not there"
    return (Path(spec.origin) if spec.origin and spec.has_location else None), ""


def _looks_odd(text: str, hooks: bool) -> bool:
    if re.search(r"^raise\b", text, re.MULTILINE) or any(map(_is_absent, _IMPORT.findall(text))):
        return True
    for is_async, name, arguments in _MARKED.findall(text) if hooks else ():
        names = [argument.partition(":")[0].strip() for argument in arguments.split(",") if argument.strip()]
        if hook_problem(name, names, is_async=bool(is_async)):
            return True
    return False


def _is_absent(name: str) -> bool:
    if name in sys.stdlib_module_names or name in sys.modules or name == "flow":
        return False
    return bool(locate(name)[1])


def _problems_in(tree: ast.Module, path: Path, hooks: bool) -> Iterator[str]:
    for node in tree.body:
        place = f"({path.parent.name}/{path.name}, line {node.lineno})"
        if isinstance(node, ast.Raise):
            yield f"raises {ast.unparse(node.exc) if node.exc else 'an error'} when imported {place}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in _imported(node):
                if _is_absent(name):
                    yield f"needs the module {name}, which is not installed {place}"
        elif hooks and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (hook := _hook_of(node)):
            parameters = [*node.args.posonlyargs, *node.args.args]
            arguments = [item.arg for item in parameters[: len(parameters) - len(node.args.defaults)]]
            if problem := hook_problem(hook, arguments, is_async=isinstance(node, ast.AsyncFunctionDef)):
                yield f"{problem} {place}"


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module.partition(".")[0]] if node.module and not node.level else []
    return [alias.name.partition(".")[0] for alias in node.names]


def _hook_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
        if ast.unparse(call.func).rpartition(".")[2] == "hookimpl":
            names = [item.value for item in call.keywords if item.arg == "specname"]
            return str(ast.literal_eval(names[0])) if names else node.name
    return ""
