"""The parts of docs/reference that are made from the sources: ``python -m tests.reference`` writes them anew.

A page keeps its own words around them; what is made stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import attrs
from typer.main import get_command

import flow
import flow.errors
from flow._cli.main import app as program
from flow.errors import ControlSignal, FlowError
from tests.workspace import CORE, ROOT, Source

FOLDER = ROOT / "docs/reference"
SOURCES = CORE.folder / "src/flow"

# Which page tells more about the plugins that implement a hook.
PAGE_OF_HOOK = {
    "flow_bind_step": "steps",
    "flow_wrap_step": "policies",
    "flow_classify_error": "policies",
    "flow_choose_recovery": "policies",
    "flow_open_cache": "cache",
    "flow_make_cache_key": "cache",
    "flow_open_state": "state",
    "flow_open_tracer": "tracers",
    "flow_observe": "tracers",
    "flow_open_engine": "engines",
}

# The modules whose public names are listed under a heading, in this order.
TOPICS = {
    "Declaring": "_decorator _step _pipeline _context _resources _policies _structure _structure_diff",
    "Running": "_flow _handle _results _usage _run _stream _events _event_json",
    "Checking": "_validators _graph",
    "Writing plugins": "hookspecs _lease _run_ids _kernel _protocols _agents _merge _settings",
}

# Names that are values and carry no docstring.
PLAIN = {
    "DECISIONS": "Keys of a step's metadata that hold decisions and numbers, and no content.",
    "INTERNAL_METADATA": "Keys of `RunRecord.metadata` that the kernel and its tracers use, and nobody searches.",
    "__version__": "The version of flow-core.",
    "hookimpl": "The decorator that marks a function as the implementation of a hook.",
    "Wrap": "What a wrapper does: `wrap(execute)` returns the `Execute` that replaces it.",
    "MergePolicy": (
        'How branches that changed one context field differently are settled: `"error"`, `"first"`, `"last"`, '
        "or `policy(context, {branch: context})`, which returns the fields to set."
    ),
}


# -- docstrings


def paragraphs(text: str | None) -> list[str]:
    """The docstring by paragraphs, without doctests."""
    clean = inspect.cleandoc(text or "").replace("``", "`")
    return [part for part in clean.split("\n\n") if not part.lstrip().startswith(">>>")]


def summary(text: str | None) -> str:
    """The first sentence."""
    first = " ".join(paragraphs(text)[0].split()) if text else ""
    return re.split(r"(?<=\.) (?=[A-Z`*])", first)[0]


def prose(text: str | None) -> Iterator[str]:
    """The docstring as Markdown: parameters become a list, doctests are left out."""
    for paragraph in paragraphs(text):
        if paragraph.startswith((":param", ":ivar")):
            items = re.split(r"^:(?:param|ivar) (\w+): ", paragraph, flags=re.MULTILINE)[1:]
            yield "\n".join(
                f"- `{name}`: {' '.join(what.split())}" for name, what in zip(items[::2], items[1::2], strict=True)
            )
        else:
            yield " ".join(paragraph.split())


def signature(function: Callable[..., Any], *, bound: bool = False) -> str:
    """The parameters with their defaults; types stand in the sources."""
    parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    text = re.sub(r"<(\w+\.\w+): [^>]+>", r"\1", str(inspect.Signature(plain)))  # members of enumerations
    return re.sub(r"=(NOTHING|<factory>)", "=…", text).replace(f"={flow.Usage()!r}", "=Usage()")


# -- hooks


def hook_functions() -> list[tuple[str, ast.FunctionDef]]:
    """The hooks in the order of the file, each with the banner above it."""
    source = Source(SOURCES / "hookspecs.py")
    banners = [
        (number, line.strip("#- "))
        for number, line in enumerate(source.text.splitlines(), 1)
        if line.startswith("# -- ")
    ]
    return [
        ([banner for line, banner in banners if line < node.lineno][-1], node)
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("flow_")
    ]


def hook_heading(node: ast.FunctionDef) -> str:
    return f"{node.name}({', '.join(argument.arg for argument in node.args.args)})"


def hook_signature(node: ast.FunctionDef) -> str:
    assert node.returns is not None
    return f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"


def hooks() -> Iterator[str]:
    group = ""
    for banner, node in hook_functions():
        if banner != group:
            group = banner
            yield f"## {banner[0].upper()}{banner[1:]}"
        yield f"### {hook_heading(node)}"
        yield f"```\n{hook_signature(node)}\n```"
        text = ast.get_docstring(node) or ""
        told, phase, combines, raising = re.split(r"\n*Phase: (.+?)\. Combines: (.+?)\.(?=\s|$)", text, flags=re.DOTALL)
        yield from prose(told)
        yield f"- Phase: {' '.join(phase.split())}\n- Combines: {combines}"
        yield from prose(raising.strip())
        page = PAGE_OF_HOOK[node.name]
        yield f"More: [{page}](../plugins/{page}.md)"


# -- names


def names() -> Iterator[str]:
    listed: set[str] = set()
    for topic, modules in TOPICS.items():
        yield f"## {topic}"
        for module in modules.split():
            for name in [name for name, home in flow._MODULE_OF.items() if home == module]:
                listed.add(name)
                yield from described(name, module)
    yield "## Errors and signals"
    rest = [name for name in flow.__all__ if name not in listed and name != "__version__"]
    yield "They are described in [errors](errors.md)."
    yield "\n".join(f"- `{name}`: {summary(inspect.getdoc(vars(flow.errors)[name]))}" for name in rest)
    yield f"## Version\n\n### \\_\\_version\\_\\_\n\n{PLAIN['__version__']}"


def described(name: str, module: str) -> Iterator[str]:
    value = vars(importlib.import_module(f"flow.{module}"))[name]
    yield f"### {name}"
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        yield PLAIN.get(name) or " ".join(text_below(name, module).split())
        return
    if shown := call(name, value):
        yield f"```\n{shown}\n```"
    yield from prose(inspect.getdoc(value))
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        yield "Members: " + ", ".join(f"`{member.name}`" for member in value)
    elif inspect.isclass(value) and (members := list(described_members(value))):
        yield "\n".join(members)


def call(name: str, value: Any) -> str:
    """How it is called; nothing for what is not called by users."""
    if inspect.isclass(value) and (
        issubclass(value, enum.Enum) or value in PROTOCOLS | GIVEN or value.__init__ is object.__init__
    ):
        return ""
    return f"{name}{signature(value)}"


PROTOCOLS = {flow.AsyncAgentProtocol, flow.ContextAwareAgentProtocol, flow.StateBackend, flow.CacheBackend, flow.Engine}
GIVEN = {flow.Binder, flow.Run, flow.RunHandle, flow.Scope, flow.StepRun}
"""Classes whose objects users get and never make."""


def text_below(name: str, module: str) -> str:
    """The string below an assignment, which documents a value."""
    body = Source(SOURCES / f"{module}.py").tree.body
    for node, following in itertools.pairwise(body):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            match following:
                case ast.Expr(ast.Constant(str(text))):
                    return text
    raise LookupError(f"flow.{name} has no description: write one below it in {module}.py, or in PLAIN here")


def described_members(cls: type) -> Iterator[str]:
    told = cls.__doc__ or ""
    public = [] if attrs.has(cls) else [name for name in vars(cls).get("__slots__", ()) if not name.startswith("_")]
    slots = [name for name in public if f":ivar {name}:" not in told and f":param {name}:" not in told]
    if slots:
        yield f"- attributes: {', '.join(f'`.{name}`' for name in sorted(slots))}"
    for name, item in vars(cls).items():
        if name.startswith("_") or name == "model_config":
            continue
        if isinstance(item, property):
            yield f"- `.{name}`: {summary(item.__doc__)}"
        elif isinstance(item, classmethod):
            yield f"- `{cls.__name__}.{name}{signature(item.__func__, bound=True)}`: {summary(item.__doc__)}"
        elif inspect.isfunction(item):
            yield f"- `.{name}{signature(item, bound=True)}`: {summary(item.__doc__)}"


# -- errors


def error_tree() -> Iterator[str]:
    text = inspect.cleandoc(flow.errors.__doc__ or "")
    yield f"```\n{inspect.cleandoc(text.partition('::')[2])}\n```"


def error_classes() -> list[type[FlowError]]:
    found = [value for value in vars(flow.errors).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, FlowError)]


def error_codes() -> Iterator[str]:
    rows = [
        f"| `{cls.__name__}` | `{cls.code}` | {cls.category.value} | {'yes' if cls.halts_run else ''} "
        f"| {summary(inspect.getdoc(cls))} |"
        for cls in error_classes()
    ]
    yield "\n".join(["| error | code | category | ends the run | |", "| --- | --- | --- | --- | --- |", *rows])
    signals = [value for value in vars(flow.errors).values() if isinstance(value, type)]
    yield "\n".join(
        f"- `{cls.__name__}`: {summary(inspect.getdoc(cls))}" for cls in signals if issubclass(cls, ControlSignal)
    )


# -- rules of validation


def rules() -> Iterator[str]:
    text = ast.get_docstring(Source(SOURCES / "_graph.py").tree) or ""
    found = re.findall(r"^(FLOW-\w+) +(\w+) +(.+)$", text, re.MULTILINE)
    rows = [f"| `{rule}` | {severity} | {what.replace('``', '`')} |" for rule, severity, what in found]
    yield "\n".join(["| rule | severity | finding |", "| --- | --- | --- |", *rows])


# -- the command line


def commands() -> Iterator[str]:
    root = get_command(program)
    yield from command("flow", root, subcommands=())
    for entry in sorted(distribution("flow-core").entry_points.select(group="flow.commands"), key=lambda e: e.name):
        yield from command(f"flow {entry.name}", get_command(entry.load()))


def command(name: str, item: Any, subcommands: Any = None) -> Iterator[str]:
    inner: Mapping[str, Any] = vars(item).get("commands", {}) if subcommands is None else {}
    arguments = [parameter for parameter in item.params if parameter.param_type_name == "argument"]
    options = [
        parameter for parameter in item.params if parameter.param_type_name == "option" and not is_common(parameter)
    ]
    yield f"## {name}"
    words = [
        name,
        *(["[OPTIONS]"] if options else []),
        *(metavar(a) for a in arguments),
        *(["COMMAND"] if inner or name == "flow" else []),
    ]
    yield f"```\n{' '.join(words)}\n```"
    yield from help_text(item.help or "")
    rows = [f"- `{metavar(argument)}`: {argument.help}" for argument in arguments if argument.help]
    rows += [f"- `{', '.join(option.opts)}{value_of(option)}`: {option.help}" for option in options]
    if rows:
        yield "\n".join(rows)
    for inner_name, inner_item in inner.items():
        yield from command(f"{name} {inner_name}", inner_item)


def help_text(text: str) -> Iterator[str]:
    r"""The paragraphs; those marked with \\b keep their lines."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        verbatim = paragraph.startswith("\b\n")
        yield f"```\n{paragraph[2:]}\n```" if verbatim else " ".join(paragraph.split())


def is_common(option: Any) -> bool:
    return {"--help", "--install-completion", "--show-completion"} & set(option.opts) != set()


def metavar(argument: Any) -> str:
    text = argument.metavar or argument.name.upper()
    return text if argument.required else f"[{text}]"


def value_of(option: Any) -> str:
    return "" if option.is_flag else f" {option.metavar or option.name.upper()}"


# -- writing


REGIONS: dict[str, dict[str, Callable[[], Iterator[str]]]] = {
    "hooks.md": {"hooks": hooks},
    "api.md": {"names": names},
    "errors.md": {"tree": error_tree, "codes": error_codes},
    "validation.md": {"rules": rules},
    "cli.md": {"commands": commands},
}


def current(path: Path) -> str:
    """The page as it should be."""
    text = path.read_text(encoding="utf-8")
    for name, make in REGIONS[path.name].items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        made = "\n\n".join(part.strip() for part in make())
        text = f"{before}{begin}\n\n{made}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    for page in REGIONS:
        (FOLDER / page).write_text(current(FOLDER / page), encoding="utf-8")
