"""``flow plugins new``: packages that are whole, are found and work; names and places that are refused."""

from __future__ import annotations

import ast
import asyncio
import configparser
import re
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from core.tests.fake_site import Site
from flow import Cache, Flow, Kernel, PlaceOn, Settings, Step
from flow._cli.main import main
from flow._cli.scaffold import KINDS, new
from flow._discovery import PluginKind
from flow.errors import ConfigurationError


def installed(site: Site, kind: str, name: str = "word-count") -> str:
    """Write a package, install it as its metadata says, and return the name of its module."""
    package = new(name, kind)
    document = tomllib.loads((package / "pyproject.toml").read_text())
    (folder,) = (package / "src").iterdir()
    folder.rename(site.packages / folder.name)
    project = document["project"]
    site.add(project["name"], project["entry-points"], {}, requires=project["dependencies"])
    return folder.name


# -- what is written


@pytest.mark.parametrize("kind", KINDS)
def test_package_is_whole(kind: str) -> None:
    package = new("word-count", kind)
    assert package == Path("flow-word-count")
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file())
    assert files == [
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/flow_word_count/__init__.py",
        "src/flow_word_count/py.typed",
        "tests/test_conformance.py",
        "tests/test_word_count.py",
        "tox.ini",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_templates_is_left(kind: str) -> None:
    for path in new("word-count", kind).rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"\$\w|\$\{|\t| \n", text), path
            assert path.suffix != ".py" or ast.parse(text)
            assert path.name in ("py.typed", "LICENSE") or "word" in text or path.name in (".gitignore", "tox.ini")


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_is_complete(kind: str) -> None:
    document = tomllib.loads((new("word-count", kind) / "pyproject.toml").read_text())
    project = document["project"]
    assert (project["name"], project["version"]) == ("flow-word-count", "0.1.0")
    assert document["build-system"]["build-backend"] == "hatchling.build"
    assert project["dependencies"][0] == "flow-core>=0.1,<0.2"
    assert PluginKind.parse(kind).group in project["entry-points"]
    assert [line.split(">")[0] for line in document["dependency-groups"]["test"]] == [
        "flow-testkit",
        "pytest",
        "pytest-asyncio",
    ]


def test_readme_begins_with_the_name() -> None:
    assert (new("word-count") / "README.md").read_text().startswith("# flow-word-count\n")


def test_tox_runs_the_tests_on_each_python_and_takes_wheels_from_where_pip_is_told_to() -> None:
    tox = configparser.ConfigParser()
    tox.read(new("word-count") / "tox.ini")
    assert tox["tox"]["env_list"] == "py311, py312, py313"
    assert tox["testenv"]["pass_env"] == "PIP_*"
    assert tox["testenv"]["dependency_groups"] == "test"


@pytest.mark.parametrize("kind", KINDS)
def test_generated_module_imports_what_it_declares_only(kind: str) -> None:
    package = new("word-count", kind)
    required = tomllib.loads((package / "pyproject.toml").read_text())["project"]["dependencies"]
    tree = ast.parse((package / "src/flow_word_count/__init__.py").read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    third_party = {module.partition(".")[0] for module in modules} - set(__import__("sys").stdlib_module_names)
    assert third_party - {"flow"} == {re.split(r"[<>=]", line)[0] for line in required} - {"flow-core"}
    assert {module for module in modules if module.startswith("flow.")} <= {"flow.errors"}


@pytest.mark.parametrize(
    ("name", "dist", "module"),
    [
        ("shout", "flow-shout", "flow_shout"),
        ("flow-shout", "flow-shout", "flow_shout"),
        ("flow_shout", "flow-shout", "flow_shout"),
        ("Word_Count", "flow-word-count", "flow_word_count"),
        ("a.b--c", "flow-a-b-c", "flow_a_b_c"),
        ("s3", "flow-s3", "flow_s3"),
    ],
)
def test_names_are_made_canonical(name: str, dist: str, module: str) -> None:
    package = new(name)
    assert package.name == dist
    assert (package / "src" / module / "__init__.py").exists()


def test_directory_may_be_given(tmp_path: Path) -> None:
    assert new("shout", "step", tmp_path) == tmp_path / "flow-shout"


# -- that it works


@pytest.fixture
def plugin(site: Site) -> Callable[[str], tuple[Any, Kernel]]:
    """Write and install a plugin of a kind; return its module and a kernel that sees it and the kernel's own."""

    def make(kind: str) -> tuple[Any, Kernel]:
        module = installed(site, kind)
        kernel = Kernel(Settings(strict=True), only=["flow-word-count"])
        return import_module(module), kernel

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_plugin_is_discovered_and_nothing_is_wrong_with_it(plugin: Any, kind: str) -> None:
    _, kernel = plugin(kind)
    checked = [item for item in kernel.plugins.check() if item.status.dist == "flow-word-count"]
    assert PluginKind.parse(kind) in [item.status.kind for item in checked]
    assert [(item.status.state, item.findings) for item in checked] == [("loaded", ())] * len(checked)


def test_step_runs(plugin: Any) -> None:
    module, kernel = plugin("step")
    step = module.word_count("loud", times=2, retries=1)
    assert Flow(step, kernel=kernel).run("hello").output == "HELLO!!"
    assert step.retries == 1


def test_state_keeps_what_is_needed_to_resume(plugin: Any) -> None:
    _, kernel = plugin("state")
    calls: list[str] = []

    def flaky(text: str) -> str:
        calls.append(text)
        return text if len(calls) > 1 else str(1 / 0)

    async def fail_and_resume() -> Any:
        flow = Flow(Step("first", str.upper) >> Step("flaky", flaky), state="word-count://", kernel=kernel)
        failed = await flow.run_async("hello")
        return await flow.resume_async(failed.run_id)

    result = asyncio.run(fail_and_resume())
    assert result.output == "HELLO"
    assert [step.replayed for step in result.step_history] == [True, False]


def test_cache_keeps_results(plugin: Any) -> None:
    _, kernel = plugin("cache")
    flow = Flow(Step("upper", str.upper, cache=Cache()), cache="word-count://", kernel=kernel)
    assert [flow.run("hello").step_history[0].cached for _ in range(2)] == [False, True]


def test_tracer_prints_steps_and_no_content(plugin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, kernel = plugin("tracer")
    assert Flow(Step("upper", str.upper), tracers=["word-count"], kernel=kernel).run("secret").success
    printed = capsys.readouterr().err
    assert "[word-count] 0:upper ok after" in printed
    assert "secret" not in printed.lower()


def test_validator_refuses(plugin: Any) -> None:
    module, kernel = plugin("validator")
    result = Flow(Step("upper", str.upper, validators=[module.WordCount(max_length=3)]), kernel=kernel).run("hello")
    assert result.step_history[0].feedback == ("Validation failed: word_count: it has 5 characters, at most 3 may be")


def test_policy_measures(plugin: Any) -> None:
    module, kernel = plugin("policy")
    result = Flow(Step("upper", str.upper, policies=[module.WordCount(slow_s=0)]), kernel=kernel).run("hello")
    assert result.step_history[0].metadata["word_count"]["slow"] is True


def test_engine_runs_steps_that_are_placed_on_it(plugin: Any) -> None:
    _, kernel = plugin("engine")

    async def where(data: str) -> str:
        task = asyncio.current_task()
        return task.get_name() if task else ""

    step = Step("where", where, policies=[PlaceOn("word-count://")])
    assert Flow(step, kernel=kernel).run("data").output == "word-count:0:where"


def test_command_runs(site: Site) -> None:
    installed(site, "command")
    done = site.flow("word-count", "hello", "--times", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "HELLO!!\n", "")


# -- what is refused


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("shout", "setp", "'setp' is not a kind of plugin that can be written. Did you mean step?"),
        ("shout", "dsl", "'dsl' is not a kind of plugin that can be written. The kinds are step, state, cache, "),
        ("", "step", "'' cannot be the name of a package. Use ASCII letters, digits and '-', such as word-count"),
        ("../evil", "step", "'../evil' cannot be the name of a package"),
        ("größe", "step", "'größe' cannot be the name of a package"),
        ("-x", "step", "'-x' cannot be the name of a package"),
        ("a b", "step", "'a b' cannot be the name of a package"),
        ("2fa", "step", "a plugin cannot be called '2fa'"),
        ("lambda", "step", "a plugin cannot be called 'lambda'"),
        ("core", "step", "a plugin cannot be called 'core'"),
        ("flow-core", "step", "a plugin cannot be called 'core'"),
        ("memory", "state", "state 'memory' is one of flow's own"),
        ("retry", "policy", "policy 'retry' is one of flow's own"),
        ("plugins", "command", "command 'plugins' is one of flow's own"),
        (
            "base-step",
            "step",
            "a step plugin cannot be called 'base-step': Python code that uses it needs the name BaseStep",
        ),
        ("print", "step", "a step plugin cannot be called 'print': Python code that uses it needs the name print"),
        (
            "typer",
            "command",
            "a command plugin cannot be called 'typer': Python code that uses it needs the name typer",
        ),
        ("app", "command", "a command plugin cannot be called 'app': Python code that uses it needs the name app"),
    ],
)
def test_names_and_kinds_that_cannot_be(name: str, kind: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        new(name, kind)
    assert str(caught.value).startswith(message)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["directory", "file"])
def test_what_exists_is_left_alone(make: Callable[[Path], None]) -> None:
    make(Path("flow-shout"))
    with pytest.raises(ConfigurationError, match="flow-shout exists already"):
        new("shout")
    assert [path.name for path in Path().rglob("*")] == ["flow-shout"]


def test_missing_directory_is_not_made() -> None:
    with pytest.raises(ConfigurationError, match="there is no directory nowhere"):
        new("shout", "step", Path("nowhere"))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_nothing_is_left_half_written(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    write, written = Path.write_text, []

    def fail_at_the_third(path: Path, text: str, **options: Any) -> int:
        written.append(path)
        if len(written) == 3:
            raise error
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fail_at_the_third)
    with pytest.raises((ConfigurationError, KeyboardInterrupt)) as caught:
        new("shout")
    assert len(written) == 3
    assert list(Path().iterdir()) == []
    if isinstance(caught.value, ConfigurationError):
        assert caught.value.message == "flow-shout cannot be written: No space left on device"


def test_command_line_says_what_was_written_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plugins", "new", "shout", "--kind", "tracer"])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert printed.startswith("wrote flow-shout: a plugin (tracer) that works, with tests.")
    assert "  cd flow-shout\n  tox " in printed


def test_command_line_refuses_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", "shout", "--kind", "setp"]) == 2
    assert capsys.readouterr().err == (
        "error: 'setp' is not a kind of plugin that can be written\nhint: Did you mean step?\n"
    )
