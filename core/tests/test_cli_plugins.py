"""The command line as a user meets it: what ``flow`` and ``flow plugins`` print, and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from core.tests.fake_site import HEALTHY, Site
from flow._cli import main as command_line
from flow._cli import settings_file
from flow.errors import (
    AnswerInvalid,
    FlowError,
    LeaseLost,
    PipelineChanged,
    PluginError,
    RunFailed,
    RunNotFound,
    RunOwned,
    SettingsError,
    StateCorrupt,
)

COMMAND = """\
import pathlib, typer
pathlib.Path("imported").touch()
app = typer.Typer()

@app.command()
def shout(text: str):
    print(text.upper())
"""
POLICY = "from flow.hookspecs import hookimpl\n@hookimpl\ndef flow_wrap_step(step, binder): ...\n"


def command(site: Site, name: str = "shout", source: str = COMMAND, **options: Any) -> None:
    module = f"flow_{name}_cli"
    site.add(f"flow-{name}", {"flow.commands": {name: f"{module}:app"}}, {module: source}, **options)


def listed(site: Site, *arguments: str, **environment: str) -> list[dict[str, Any]]:
    done = site.flow("plugins", "list", "--json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def row_of(rows: list[dict[str, Any]], dist: str) -> dict[str, Any]:
    return next(row for row in rows if row["dist"] == dist)


# -- flow


def test_help_shows_commands_of_plugins_without_importing_them(site: Site) -> None:
    command(site)
    done = site.flow("--help")
    assert done.returncode == 0
    assert "List, check, block and write plugins." in done.stdout
    assert "From flow-shout 0.1.0." in done.stdout
    assert not (site.work / "imported").exists()


def test_command_line_starts_without_what_only_runs_need(site: Site) -> None:
    heavy = {"flow._kernel", "flow._flow", "asyncio", "pydantic", "packaging", "tomllib", "tomlkit", "rich"}
    program = f"import sys, flow._cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_command_of_a_plugin_is_loaded_when_it_is_typed(site: Site) -> None:
    command(site)
    done = site.flow("shout", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "HELLO\n", "")


def test_help_of_a_plugins_command_offers_no_completion_of_its_own(site: Site) -> None:
    command(site)
    done = site.flow("shout", "--help")
    assert done.returncode == 0
    assert "Usage: flow shout" in done.stdout
    assert "--install-completion" not in done.stdout


def test_broken_command_is_an_error_without_traceback(site: Site) -> None:
    command(site, source="1 / 0")
    done = site.flow("shout", "hello")
    assert done.returncode == 2
    assert done.stderr == (
        "error: plugin commands:shout from flow-shout 0.1.0 failed: raises ZeroDivisionError('division by zero') "
        "when imported (packages/flow_shout_cli.py, line 1)\n"
        "hint: Try: flow plugins block shout, or pip uninstall flow-shout\n"
    )


def test_traceback_is_shown_when_asked_for_wherever_the_option_stands(site: Site) -> None:
    command(site, source="1 / 0")
    for arguments in (["--traceback", "shout"], ["shout", "--traceback"]):
        done = site.flow(*arguments)
        assert done.returncode == 2
        assert "Traceback (most recent call last)" in done.stderr
        assert "ZeroDivisionError: division by zero" in done.stderr


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("plugin", "Did you mean plugins?"),
        pytest.param(
            "lens",
            "pip install flow-lens",
            marks=pytest.mark.skipif(find_spec("flow_lens") is not None, reason="flow-lens is installed"),
        ),
        ("qqq", "See flow --help"),
    ],
)
def test_unknown_command_says_what_helps(site: Site, word: str, hint: str) -> None:
    done = site.flow(word)
    assert done.returncode == 2
    assert done.stderr.endswith(f"hint: {hint}\n")


def test_unexpected_error_is_one_line_and_advice(site: Site) -> None:
    command(site, source=COMMAND.replace("print(text.upper())", "raise LookupError('inside')"))
    done = site.flow("shout", "hello")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "internal error: LookupError: inside",
        "hint: run the command again with --traceback to see where it comes from",
    ]


def test_interruption_is_exit_code_130(site: Site) -> None:
    command(site, source=COMMAND.replace("print(text.upper())", "raise KeyboardInterrupt"))
    assert site.flow("shout", "hello").returncode == 130


def test_warnings_are_one_line_each(site: Site) -> None:
    command(site, source=COMMAND.replace("print(text.upper())", "import warnings; warnings.warn('mind\\nthe gap')"))
    assert site.flow("shout", "hello").stderr == "warning: mind the gap\n"


def test_version_is_shown(site: Site) -> None:
    assert site.flow("--version").stdout.startswith("flow 0.")


def test_wrong_settings_do_not_break_help_but_everything_that_needs_them(site: Site) -> None:
    (site.work / "flow.toml").write_text("state = 1")
    done = site.flow("--help")
    assert done.returncode == 0
    assert "plugins" in done.stdout
    assert "warning: " in done.stderr
    done = site.flow("plugins", "list")
    assert done.returncode == 2
    assert done.stderr == f"error: {site.work / 'flow.toml'}: state must be a string, got the integer '1'\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PluginError("x"), 2),
        (SettingsError("x"), 2),
        (RunNotFound("x"), 2),
        (AnswerInvalid("x"), 2),
        (RunOwned("x"), 3),
        (LeaseLost("x"), 3),
        (StateCorrupt("x"), 4),
        (PipelineChanged("x"), 2),
        (RunFailed("x"), 1),
        (FlowError("x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_exit_code_tells_the_sort_of_error(error: FlowError, code: int) -> None:
    assert command_line.exit_code(error) == code


# -- flow plugins list


def test_list_shows_columns_and_hides_the_kernels_own(site: Site) -> None:
    site.step("shout")
    lines = site.flow("plugins", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "DIST", "VERSION", "STATE", "PROVIDES"]
    (shout,) = (line.split() for line in lines if line.startswith("shout "))
    assert shout[:-1] == ["shout", "steps", "flow-shout", "0.1.0", "available"]
    assert shout[-1].startswith("flow_bind_")  # cut where long names of other plugins leave no room
    assert not any(line.startswith("pipeline ") for line in lines)
    assert lines[-1].endswith("of flow-core itself are not shown; --all shows them.")


def test_list_fits_80_columns(site: Site) -> None:
    names = {f"thing_{index}": "flow_many" for index in range(3)}
    site.add("flow-with-a-long-name", {"flow.steps": names}, {"flow_many": HEALTHY.replace("return None", "raise")})
    site.add("flow-bad", {"flow.steps": {"bad": "flow_bad"}}, {"flow_bad": f"raise ValueError('{'long ' * 30}')"})
    assert max(map(len, site.flow("plugins", "list").stdout.splitlines())) <= 80


def test_list_all_shows_the_kernels_own(site: Site) -> None:
    names = {row["name"] for row in listed(site, "--all") if row["dist"] == "flow-core"}
    assert {"step", "pipeline", "memory", "log", "plugins"} <= names


def test_list_json_has_stable_keys(site: Site) -> None:
    site.step("shout")
    row = row_of(listed(site), "flow-shout")
    assert row == {
        "name": "shout",
        "kind": "steps",
        "dist": "flow-shout",
        "version": "0.1.0",
        "state": "available",
        "reason": "",
        "provides": ["flow_bind_step"],
    }


def test_list_by_kind(site: Site) -> None:
    site.step("shout")
    command(site, "cry")
    assert {row["kind"] for row in listed(site, "--kind", "step")} == {"steps"}
    done = site.flow("plugins", "list", "--kind", "stpes")
    assert (done.returncode, "Did you mean steps?" in done.stderr) == (2, True)


def test_list_imports_nothing(site: Site) -> None:
    for index in range(5):
        site.step(f"s{index}", f"import pathlib\npathlib.Path('imported').touch()\n{HEALTHY}")
    command(site)
    assert len(listed(site)) >= 6
    assert not (site.work / "imported").exists()


@pytest.mark.parametrize("option", [["--block", "shout"], ["--block", "flow-shout"], ["--block", "steps:shout"]])
def test_block_option_blocks(site: Site, option: list[str]) -> None:
    site.step("shout")
    done = site.flow(*option, "plugins", "list", "--json")
    row = row_of(json.loads(done.stdout), "flow-shout")
    assert row["state"] == "blocked"
    assert row["reason"] == f"--block names {option[1]}; cure: take {option[1]} out of --block"


def test_block_option_reaches_kernels_that_the_command_builds(site: Site) -> None:
    site.add("flow-p", {"flow.policies": {"p": "flow_p"}}, {"flow_p": POLICY})
    show = "import os; print(os.environ['FLOW_PLUGINS_BLOCK'])"
    command(site, source=COMMAND.replace("print(text.upper())", show))
    assert site.flow("--block", "p", "shout", "x").stdout == "p\n"


def test_block_option_with_an_unknown_name_is_refused(site: Site) -> None:
    site.step("shout")
    done = site.flow("--block", "shoot", "plugins", "list")
    assert (done.returncode, "Did you mean shout?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "environment", [{"FLOW_PLUGINS_BLOCK": "other,shout"}, {"FLOW_PLUGINS_ALLOW": ""}, {"FLOW_PLUGINS_ALLOW": "x"}]
)
def test_variables_block(site: Site, environment: dict[str, str]) -> None:
    site.step("shout")
    row = row_of(listed(site, **environment), "flow-shout")
    assert row["state"] == "blocked"
    assert next(iter(environment)) in row["reason"]


# -- flow plugins info, check, hooks


def test_info_tells_everything_known(site: Site) -> None:
    site.step("shout")
    done = site.flow("plugins", "info", "flow-shout")
    assert done.returncode == 0
    for part in ("flow-shout", "0.1.0", "flow-core>=0.1,<0.2", "steps:shout", "flow_bind_step", "available"):
        assert part in done.stdout
    (described,) = json.loads(site.flow("plugins", "info", "shout", "--json").stdout)
    assert described["requires"] == ["flow-core>=0.1,<0.2"]
    assert described["provides"][0]["value"] == "flow_shout"


@pytest.mark.parametrize("subcommand", ["info", "block"])
def test_unknown_plugin_is_refused_with_a_suggestion(site: Site, subcommand: str) -> None:
    site.step("shout")
    done = site.flow("plugins", subcommand, "shoot")
    assert done.returncode == 2
    assert done.stderr == "error: no plugin is called 'shoot'\nhint: Did you mean shout?\n"
    assert not list(site.work.iterdir())


def test_check_reports_faults_with_exit_code_1(site: Site) -> None:
    site.step("shout")
    site.step("bad", "1 / 0")
    done = site.flow("plugins", "check", FLOW_PLUGINS_BLOCK="nobody")
    assert done.returncode == 1
    assert "steps:bad (flow-bad 0.1.0) failed" in done.stdout
    assert "raises ZeroDivisionError" in done.stdout
    assert "block names nobody, but no plugin is called that" in done.stdout
    rows = json.loads(site.flow("plugins", "check", "--json").stdout)
    assert row_of(rows, "flow-bad")["findings"]
    assert row_of(rows, "flow-shout")["findings"] == []
    assert row_of(rows, "flow-shout")["load_ms"] > 0


def test_hooks_shows_implementers_in_the_order_of_the_calls(site: Site) -> None:
    site.step("shout")
    order = json.loads(site.flow("plugins", "hooks", "--json").stdout)
    assert order["flow_bind_step"].index("steps:shout") < order["flow_bind_step"].index("steps:step")
    lines = site.flow("plugins", "hooks").stdout.splitlines()
    assert "flow_bind_step(step, binder)" in lines
    assert any(line.endswith("steps:shout (flow-shout)") for line in lines)


# -- flow plugins block and unblock


def test_block_writes_flow_toml_and_unblock_takes_it_back(site: Site) -> None:
    site.step("shout")
    assert site.flow("plugins", "block", "shout").stdout == "flow.toml now blocks steps:shout (flow-shout)\n"
    assert (site.work / "flow.toml").read_text() == '[plugins]\nblock = ["shout"]\n'
    assert row_of(listed(site), "flow-shout")["state"] == "blocked"
    assert "blocks already" in site.flow("plugins", "block", "shout").stdout
    assert site.flow("plugins", "unblock", "shout").returncode == 0
    assert row_of(listed(site), "flow-shout")["state"] == "available"


def test_block_writes_pyproject_when_it_has_a_table_for_flow(site: Site) -> None:
    site.step("shout")
    path = site.work / "pyproject.toml"
    path.write_text('[project]\nname = "mine"  # ours\n\n[tool.flow]\nstate = "memory://"\n')
    assert site.flow("plugins", "block", "shout").returncode == 0
    assert path.read_text().startswith('[project]\nname = "mine"  # ours\n\n[tool.flow]\nstate = "memory://"\n')
    assert path.read_text().endswith('[tool.flow.plugins]\nblock = ["shout"]\n')
    assert not (site.work / "flow.toml").exists()


def test_block_says_when_a_variable_goes_before_the_file(site: Site) -> None:
    site.step("shout")
    done = site.flow("plugins", "block", "shout", FLOW_PLUGINS_BLOCK="other")
    assert done.stderr == "warning: FLOW_PLUGINS_BLOCK is set and goes before the file\n"


def test_flow_plugins_cannot_block_itself(site: Site) -> None:
    assert site.flow("plugins", "block", "commands:plugins").returncode == 2


def test_unblock_of_what_is_not_blocked_is_refused(site: Site) -> None:
    assert site.flow("plugins", "unblock", "shout").returncode == 2
    (site.work / "flow.toml").write_text('[plugins]\nblock = ["shout"]\n')
    done = site.flow("plugins", "unblock", "shoot")
    assert (done.returncode, "Did you mean shout?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[plugins]\nblock = ["new"]\n'),
        ('state = "x"\n', 'state = "x"\n\n[plugins]\nblock = ["new"]\n'),
        ("[plugins] # mine\nstrict = true\n", '[plugins] # mine\nstrict = true\nblock = ["new"]\n'),
        ("[plugins]\nblock = ['a'] # a\n", "[plugins]\nblock = ['a', \"new\"] # a\n"),
        (
            '[plugins]\nblock = [  # why\n  "a",  # [not] this\n]\n[otel]\n',
            '[plugins]\nblock = [  # why\n  "a",  # [not] this\n  "new",\n]\n[otel]\n',
        ),
        ('plugins.block = ["a"]\n', 'plugins.block = ["a", "new"]\n'),
        ('plugins = { block = ["a"] }\n', 'plugins = { block = ["a", "new"] }\n'),
        ("[plugins]\r\nblock = []\r\n", '[plugins]\r\nblock = ["new"]\r\n'),
    ],
)
def test_block_edits_in_place(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "flow.toml"
    path.write_bytes(before.encode())
    assert settings_file.block(path, "new")
    assert path.read_bytes().decode() == after
    assert [item.name for item in tmp_path.iterdir()] == ["flow.toml"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[plugins]\nblock = ["old"]\n', "[plugins]\nblock = []\n"),
        ("[plugins]\nblock = ['a', 'old']  # keep\n", "[plugins]\nblock = ['a']  # keep\n"),
        ('[plugins]\nblock = [\n  "a", # old\n  "old",\n]\n', '[plugins]\nblock = [\n  "a", # old\n]\n'),
        ('[plugins]\nblock = ["old", "a", "old"]\n', '[plugins]\nblock = ["a"]\n'),
    ],
)
def test_unblock_edits_in_place(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "flow.toml"
    path.write_text(before)
    settings_file.unblock(path, "old")
    assert path.read_text() == after


def test_file_that_cannot_be_written_is_named_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flow.toml"
    path.write_text('state = "x"\n')

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingsError, match=r"flow.toml cannot be written: No space left on device"):
        settings_file.block(path, "new")
    assert path.read_text() == 'state = "x"\n'
    assert [item.name for item in tmp_path.iterdir()] == ["flow.toml"]


def test_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "flow.toml"
    path.touch(mode=0o640)
    settings_file.block(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640
