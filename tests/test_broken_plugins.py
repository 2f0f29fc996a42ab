"""One broken plugin of each sort beside a healthy one: each breaks itself and nothing else."""

from __future__ import annotations

import json

import pytest

from core.tests.fake_site import HEALTHY, Site, site

__all__ = ["site"]

HOOK = "from flow.hookspecs import hookimpl\n@hookimpl\n"
POLICY = f"{HOOK}def flow_wrap_step(step, binder): ...\n"

# What is wrong with ``flow-NAME``: source, requirements, and what the listing says is the cause and the cure.
CULPRITS = {
    "import": ("raise RuntimeError('boom')", (), "raises RuntimeError('boom')", "flow plugins block import"),
    "argument": (
        f"{HOOK}def flow_wrap_step(step, biner): ...",
        (),
        "flow_wrap_step has no argument biner, only step, binder",
        "pip uninstall flow-argument",
    ),
    "unknown": (
        f"{HOOK}def flow_wrap_stpe(step, binder): ...",
        (),
        "flow_wrap_stpe is not a hook of flow: Did you mean flow_wrap_step?",
        "pip uninstall flow-unknown",
    ),
    "async": (
        f"{HOOK}async def flow_wrap_step(step, binder): ...",
        (),
        "flow_wrap_step is async",
        "pip uninstall flow-async",
    ),
    "dependency": (
        f"import not_there_at_all\n{POLICY}",
        ("not-there-at-all>=1",),
        "needs not-there-at-all>=1, which is not installed",
        "pip install 'not-there-at-all>=1'",
    ),
    "range": (POLICY, ("flow-core>=99",), "needs flow-core>=99, installed is", "pip install -U flow-range flow-core"),
    "duplicate": (
        POLICY,
        (),
        "flow-a-duplicate provides policies:duplicate too",
        "flow plugins block flow-a-duplicate",
    ),
}
STATES = {"range": "incompatible", "duplicate": "shadowed"}
PIPELINE = "from flow import Step\npipeline = Step('upper', str.upper)\n"


@pytest.fixture
def broken(site: Site) -> Site:
    for name, (source, requires, _, _) in CULPRITS.items():
        module = f"flow_{name}"
        site.add(f"flow-{name}", {"flow.policies": {name: module}}, {module: source}, requires=requires)
    site.add("flow-a-duplicate", {"flow.policies": {"duplicate": "flow_first"}}, {"flow_first": POLICY})
    site.step("shout", f"import pathlib\npathlib.Path('imported').touch()\n{HEALTHY}")
    (site.work / "app.py").write_text(PIPELINE)
    return site


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", CULPRITS)
def test_list_names_culprit_cause_and_cure_in_text(broken: Site, name: str) -> None:
    done = broken.flow("plugins", "list")
    assert (done.returncode, done.stderr) == (0, "")
    _, _, cause, cure = CULPRITS[name]
    heading = f"policies:{name} (flow-{name} 0.1.0) {STATES.get(name, 'failed')} "
    (part,) = [part for part in map(squeezed, done.stdout.split("\n\n")) if part.startswith(heading)]
    assert part.removeprefix(heading).startswith(cause)
    assert cure in part


@pytest.mark.parametrize("name", CULPRITS)
def test_list_names_culprit_cause_and_cure_in_json(broken: Site, name: str) -> None:
    rows = json.loads(broken.flow("plugins", "list", "--json").stdout)
    (row,) = [row for row in rows if row["dist"] == f"flow-{name}"]
    _, _, cause, cure = CULPRITS[name]
    assert row["state"] == STATES.get(name, "failed")
    assert row["reason"].startswith(cause)
    assert cure in row["reason"]


def test_list_imports_no_plugin_to_find_that_out(broken: Site) -> None:
    broken.flow("plugins", "list")
    assert not (broken.work / "imported").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["plugins", "list", "--all"], 0),
        (["plugins", "list", "--kind", "steps"], 0),
        (["plugins", "info", "flow-import"], 0),
        (["plugins", "check"], 1),
        (["plugins", "hooks"], 0),
        (["plugins", "block", "import"], 0),
        (["plugins", "new", "fresh"], 0),
        (["validate", "app.py"], 0),
        (["run", "app.py", "--input", "hi"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_command_still_works(broken: Site, arguments: list[str], code: int) -> None:
    done = broken.flow(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_run_warns_once_of_each_culprit_and_gives_the_result(broken: Site) -> None:
    done = broken.flow("run", "app.py", "--input", "hi")
    assert "HI" in done.stdout
    for name in CULPRITS:
        (line,) = [line for line in done.stderr.splitlines() if f"from flow-{name} 0.1.0" in line]
        assert line.startswith("warning: plugin policies:")
        assert "Try: " in line


def test_check_finds_every_culprit_and_no_healthy_plugin(broken: Site) -> None:
    done = broken.flow("plugins", "check", "--json")
    assert done.returncode == 1
    faulty = {row["dist"] for row in json.loads(done.stdout) if row["findings"]}
    assert faulty == {f"flow-{name}" for name in CULPRITS}


def test_strict_mode_makes_the_first_culprit_an_error(broken: Site) -> None:
    done = broken.flow("run", "app.py", "--input", "hi", FLOW_PLUGINS_STRICT="1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: plugin policies:")


def test_following_the_cures_silences_the_warnings(broken: Site) -> None:
    for name in CULPRITS:
        assert broken.flow("plugins", "block", f"flow-{name}").returncode == 0
    done = broken.flow("run", "app.py", "--input", "hi", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
