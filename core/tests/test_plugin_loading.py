"""Loading: the error boundary around every plugin, and that nothing of a broken one stays behind."""

from __future__ import annotations

import sys
import threading
import types
import warnings
from typing import Any

import pytest

from core.tests.fake_site import HEALTHY, Site
from flow._plugins import FlowPluginWarning, PluginKind, Plugins, PluginState, PluginStatus
from flow._settings import Settings
from flow.errors import ConfigurationError, PluginError
from flow.hookspecs import hookimpl

STEPS = PluginKind.STEPS
HOOK = "from flow.hookspecs import hookimpl\n@hookimpl\n"
HERE = "when imported (packages/flow_bad.py, line 1)"

# What a module does wrong, what is said about it once it is loaded, and what its source tells before.
FAULTS = {
    "raises": ("raise RuntimeError('boom')", f"raises RuntimeError('boom') {HERE}"),
    "divides": ("1 / 0", f"raises ZeroDivisionError('division by zero') {HERE}"),
    "exits": ("import sys\nsys.exit(3)", "raises SystemExit('3') when imported"),
    "syntax": ("def (:", "raises SyntaxError("),
    "module": ("import not_there_at_all", "needs the module not_there_at_all, which is not installed"),
    "submodule": ("from flow import not_there", "raises ImportError("),
    "unknown": (f"{HOOK}def flow_bind_stp(step): ...", "is not a hook of flow: Did you mean flow_bind_step?"),
    "foreign": (f"{HOOK}def bind(step): ...", "bind is not a hook of flow: see flow plugins hooks"),
    "argument": (f"{HOOK}def flow_bind_step(stepp, binder): ...", "flow_bind_step has no argument stepp, only step"),
    "async": (f"{HOOK}async def flow_bind_step(step, binder): ...", "flow_bind_step is async, but hooks are"),
    "asyncgen": (f"{HOOK}async def flow_bind_step(step): yield", "flow_bind_step is async, but hooks are"),
    "generator": (f"{HOOK}def flow_bind_step(step): yield", "flow_bind_step yields, but is not marked"),
    "wrapper": (
        "from flow.hookspecs import hookimpl\n@hookimpl(wrapper=True)\ndef flow_bind_step(step): ...",
        "is not a generator",
    ),
    "unmarked": ("def flow_bind_step(step, binder): ...", "flow_bind_step lacks the decorator @hookimpl"),
    "empty": ("", "it implements no flow_bind_step"),
    "half": (f"{HEALTHY}\n@hookimpl\ndef flow_wrap_step(wrong): ...", "flow_wrap_step has no argument wrong"),
}  # fmt: skip
SEEN_IN_SOURCE = {"raises", "module", "unknown", "foreign", "argument", "async", "asyncgen", "half"}


def plugins_for(*only: str, **settings: Any) -> Plugins:
    return Plugins(Settings(**settings), only=only)


def status_of(plugins: Plugins, dist: str) -> PluginStatus:
    return next(status for status in plugins.statuses() if status.dist == dist)


def implementations(plugins: Plugins) -> list[str]:
    return [plugin for hook in vars(plugins.hook).values() for plugin in hook.get_hookimpls()]


def test_healthy_plugin_is_imported_when_its_name_is_needed_and_not_before(site: Site) -> None:
    site.step("shout")
    plugins = plugins_for("shout")
    assert status_of(plugins, "flow-shout").state is PluginState.AVAILABLE
    assert "flow_shout" not in sys.modules
    module = plugins.load(STEPS, "shout")
    assert module is sys.modules["flow_shout"]
    assert plugins.implementers("flow_bind_step") == ["steps:shout"]
    status = status_of(plugins, "flow-shout")
    assert (status.state, status.provides) == (PluginState.LOADED, ("flow_bind_step",))


def test_loading_twice_registers_once(site: Site) -> None:
    site.step("shout")
    plugins = plugins_for("shout")
    assert plugins.load(STEPS, "shout") is plugins.load(STEPS, "shout")
    assert len(implementations(plugins)) == 1


def test_one_module_may_serve_several_names(site: Site) -> None:
    source = f"{HEALTHY}\n@hookimpl\ndef flow_open_state(url, settings): ...\n"
    groups = {"flow.steps": {"a": "flow_both", "b": "flow_both"}, "flow.state": {"both": "flow_both"}}
    site.add("flow-both", groups, {"flow_both": source})
    plugins = plugins_for("flow-both")
    for kind, name in ((STEPS, "a"), (STEPS, "b"), (PluginKind.STATE, "both")):
        plugins.load(kind, name)
    assert plugins.implementers("flow_bind_step") == ["steps:a"]


def test_object_of_a_module_may_be_the_plugin(site: Site) -> None:
    source = HEALTHY.replace("@hookimpl\ndef flow_bind_step(", "class P:\n  @hookimpl\n  def flow_bind_step(self, ")
    source += "\np = P()\n"
    site.add("flow-object", {"flow.steps": {"object": "flow_object:p"}}, {"flow_object": source})
    plugins = plugins_for("flow-object")
    plugins.load(STEPS, "object")
    assert plugins.implementers("flow_bind_step") == ["steps:object"]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_an_error_with_distribution_cause_and_cure(site: Site, fault: str) -> None:
    source, reason = FAULTS[fault]
    site.step("bad", source)
    plugins = plugins_for("bad")
    with pytest.raises(PluginError) as caught:
        plugins.load(STEPS, "bad")
    assert "plugin steps:bad from flow-bad 0.1.0 failed: " in caught.value.message
    assert reason in caught.value.message
    assert caught.value.hint == "Try: flow plugins block bad, or pip uninstall flow-bad"


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_leaves_nothing_behind(site: Site, fault: str) -> None:
    site.step("bad", FAULTS[fault][0])
    site.step("shout")
    plugins = plugins_for("bad", "shout")
    hooks = set(vars(plugins.hook))
    with pytest.raises(PluginError):
        plugins.load(STEPS, "bad")
    assert implementations(plugins) == []
    assert set(vars(plugins.hook)) == hooks
    plugins.load(STEPS, "shout")
    assert plugins.implementers("flow_bind_step") == ["steps:shout"]
    assert status_of(plugins, "flow-bad").state is PluginState.FAILED


@pytest.mark.parametrize("fault", sorted(SEEN_IN_SOURCE))
def test_fault_is_listed_without_importing_the_plugin(site: Site, fault: str) -> None:
    site.step("bad", FAULTS[fault][0])
    status = status_of(plugins_for("bad"), "flow-bad")
    assert status.state is PluginState.FAILED
    assert status.reason
    assert status.cure == "flow plugins block bad, or pip uninstall flow-bad"
    assert "flow_bad" not in sys.modules


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - SEEN_IN_SOURCE))
def test_fault_that_only_importing_shows_is_listed_once_it_was_seen(site: Site, fault: str) -> None:
    site.step("bad", FAULTS[fault][0])
    assert status_of(plugins_for("bad"), "flow-bad").state is PluginState.AVAILABLE
    with pytest.raises(PluginError) as caught:
        plugins_for("bad").load(STEPS, "bad")
    sys.modules.pop("flow_bad", None)
    status = status_of(plugins_for("bad"), "flow-bad")
    assert status.state is PluginState.FAILED
    assert status.reason in caught.value.message
    assert "flow_bad" not in sys.modules


def test_failure_is_forgotten_when_the_plugin_works_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.step("moody", f"import os\nos.environ['MOODY']\n{HEALTHY}")
    with pytest.raises(PluginError):
        plugins_for("moody").load(STEPS, "moody")
    monkeypatch.setenv("MOODY", "1")
    plugins_for("moody").load(STEPS, "moody")
    assert status_of(plugins_for("moody"), "flow-moody").state is PluginState.AVAILABLE


def test_failure_of_an_older_module_is_not_held_against_a_new_one(site: Site) -> None:
    site.step("bad", "1 / 0")
    with pytest.raises(PluginError):
        plugins_for("bad").load(STEPS, "bad")
    (site.packages / "flow_bad.py").write_text(HEALTHY)
    assert status_of(plugins_for("bad"), "flow-bad").state is PluginState.AVAILABLE


def test_failure_of_one_entry_point_is_not_held_against_another_of_the_module(site: Site) -> None:
    groups = {"flow.steps": {"good": "flow_mixed"}, "flow.dsl": {"bad": "flow_mixed:absent"}}
    site.add("flow-mixed", groups, {"flow_mixed": HEALTHY})
    with pytest.raises(PluginError):
        plugins_for("flow-mixed").load(PluginKind.DSL, "bad")
    states = {status.name: status.state for status in plugins_for("flow-mixed").statuses()}
    assert (states["good"], states["bad"]) == (PluginState.AVAILABLE, PluginState.FAILED)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"a": '])
def test_damaged_memory_of_failures_is_as_good_as_none(site: Site, content: bytes) -> None:
    memory = site.packages.parent / "cache" / "flow" / "plugin-failures.json"
    memory.parent.mkdir(parents=True)
    memory.write_bytes(content)
    site.step("bad", "1 / 0")
    assert status_of(plugins_for("bad"), "flow-bad").state is PluginState.AVAILABLE


def test_unwritable_cache_directory_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.work / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(site.work / "file"))
    site.step("bad", "1 / 0")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        plugins_for("bad").load(STEPS, "bad")


@pytest.mark.parametrize(
    "source",
    [
        f"if False:\n    raise ValueError\ntry:\n    import not_there_at_all\nexcept ImportError:\n    pass\n{HEALTHY}",
        f'"""Text\nimport this_is_prose\nraise no alarm\n"""\n{HEALTHY}',
        "from flow.hookspecs import hookimpl\n@hookimpl(specname='flow_bind_step')\ndef bind(step, binder=None): ...",
        HEALTHY.replace("@hookimpl", "@hookimpl(tryfirst=True)").replace(
            "(step, binder)", "(\n  step: dict[str, int],\n)"
        ),
        f"{HEALTHY}\nasync def flow_runs_this_itself(anything): ...\n",
    ],
)
def test_healthy_source_is_not_suspected(site: Site, source: str) -> None:
    site.step("odd", source)
    plugins = plugins_for("odd")
    assert status_of(plugins, "flow-odd").state is PluginState.AVAILABLE
    plugins.load(STEPS, "odd")


def test_keyboard_interrupt_while_importing_is_not_caught(site: Site) -> None:
    site.step("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins_for("slow").load(STEPS, "slow")


def test_missing_requirement_is_listed_with_the_command_that_installs_it(site: Site) -> None:
    site.step("needy", f"import not_there_at_all\n{HEALTHY}", requires=["not-there-at-all>=2"])
    status = status_of(plugins_for("needy"), "flow-needy")
    assert status.state is PluginState.FAILED
    assert status.reason == "needs not-there-at-all>=2, which is not installed"
    assert status.cure.startswith("pip install 'not-there-at-all>=2', or ")


def test_broken_replacement_of_a_default_is_cured_by_blocking_its_distribution(site: Site) -> None:
    site.add("flow-worse", {"flow.steps": {"step": "flow_worse"}}, {"flow_worse": "1 / 0"})
    with pytest.raises(PluginError) as caught:
        plugins_for("flow-worse").load(STEPS, "step")
    assert caught.value.hint == "Try: flow plugins block flow-worse, or pip uninstall flow-worse"


@pytest.mark.parametrize(
    ("group", "value", "what"),
    [
        ("flow.dsl", "1", "callable"),
        ("flow.renderers", "1", "callable"),
        ("flow.validators", "len", "a class"),
        ("flow.commands", "len", "a typer.Typer"),
    ],
)
def test_entry_point_that_leads_to_the_wrong_thing_says_what_it_should_be(
    site: Site, group: str, value: str, what: str
) -> None:
    site.add("flow-odd", {group: {"odd": "flow_odd:it"}}, {"flow_odd": f"it = {value}"})
    with pytest.raises(PluginError, match=f"which is not {what}"):
        plugins_for("flow-odd").load(PluginKind.parse(group.removeprefix("flow.")), "odd")


def test_entry_point_without_its_attribute_or_module_is_a_failure(site: Site) -> None:
    site.add("flow-odd", {"flow.dsl": {"a": "flow_odd:it", "b": "flow_even:it"}}, {"flow_odd": ""})
    plugins = plugins_for("flow-odd")
    with pytest.raises(PluginError, match="has no attribute 'it'"):
        plugins.load(PluginKind.DSL, "a")
    with pytest.raises(PluginError, match="needs the module flow_even, which is not installed"):
        plugins.load(PluginKind.DSL, "b")


# -- asked for or merely installed


@pytest.mark.parametrize(
    ("settings", "requires", "message"),
    [
        ({"block": frozenset({"shout"})}, [], "is blocked: the configuration names shout"),
        ({"allow": frozenset()}, [], "is blocked: the configuration does not allow it"),
        ({}, ["flow-core>=99"], "is incompatible: needs flow-core>=99, installed is"),
    ],
)
def test_unusable_plugin_that_is_asked_for_is_an_error_and_never_imported(
    site: Site, settings: dict[str, Any], requires: list[str], message: str
) -> None:
    site.step("shout", requires=requires)
    with pytest.raises(PluginError, match=message):
        plugins_for("shout", **settings).load(STEPS, "shout")
    assert "flow_shout" not in sys.modules


def policy(site: Site, name: str, source: str, **options: Any) -> None:
    module = f"flow_{name}"
    site.add(f"flow-{name}", {"flow.policies": {name: module}}, {module: source}, **options)


POLICY = "from flow.hookspecs import hookimpl\n@hookimpl\ndef flow_wrap_step(step, binder): ...\n"


def test_broken_policy_is_one_warning_and_the_others_are_loaded(site: Site) -> None:
    policy(site, "bad", "raise RuntimeError('boom')")
    policy(site, "good", POLICY)
    plugins = plugins_for("bad", "good")
    with pytest.warns(FlowPluginWarning) as caught:
        plugins.load_policies()
    (warning,) = caught
    assert "plugin policies:bad from flow-bad 0.1.0 failed: raises RuntimeError('boom')" in str(warning.message)
    assert "flow plugins block bad" in str(warning.message)
    assert "policies:good" in plugins.implementers("flow_wrap_step")


def test_incompatible_policy_is_a_warning(site: Site) -> None:
    policy(site, "old", POLICY, requires=["flow-core>=99"])
    with pytest.warns(FlowPluginWarning, match="pip install -U flow-old flow-core"):
        plugins_for("old").load_policies()


def test_strict_mode_makes_the_warning_an_error(site: Site) -> None:
    policy(site, "bad", "raise RuntimeError('boom')")
    with pytest.raises(PluginError, match="boom"):
        plugins_for("bad", strict=True).load_policies()


def test_blocked_policy_is_silent(site: Site) -> None:
    policy(site, "bad", "raise RuntimeError('boom')")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugins_for("bad", block=frozenset({"bad"})).load_policies()


def test_rival_for_a_name_is_a_warning_and_in_strict_mode_an_error(site: Site) -> None:
    for name in ("a", "b"):
        site.add(f"flow-{name}", {"flow.steps": {"shout": f"flow_{name}"}}, {f"flow_{name}": HEALTHY})
    plugins = plugins_for("flow-a", "flow-b")
    with pytest.warns(FlowPluginWarning, match="steps:shout from flow-b 0.1.0 is shadowed: flow-a provides"):
        assert plugins.load(STEPS, "shout").__name__ == "flow_a"
    with pytest.raises(PluginError, match="is shadowed"):
        plugins_for("flow-a", "flow-b", strict=True).load(STEPS, "shout")


# -- order


def test_third_parties_are_asked_before_defaults_whenever_they_were_loaded(site: Site) -> None:
    site.step("shout")
    for order in (("shout", "step"), ("step", "shout")):
        plugins = plugins_for("shout")
        for name in order:
            plugins.load(STEPS, name)
        assert plugins.implementers("flow_bind_step") == ["steps:shout", "steps:step"]


def test_policies_are_asked_in_alphabetical_order(site: Site) -> None:
    for name in ("zulu", "alpha"):
        policy(site, name, POLICY)
    plugins = plugins_for("zulu", "alpha")
    plugins.load_policies()
    asked = plugins.implementers("flow_wrap_step")
    places = [asked.index(f"policies:{name}") for name in ("alpha", "zulu", "retry")]
    assert places == sorted(places), "alphabetically, and the kernel's own last"


def test_unknown_hook_has_no_implementers() -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean flow_bind_step"):
        plugins_for().implementers("flow_bind_stp")


# -- plugins without a distribution


def test_module_without_distribution_is_registered_and_listed() -> None:
    class Mine:
        @hookimpl
        def flow_bind_step(self, step: Any) -> None: ...

    plugins = Plugins(Settings(), only=[], modules=[Mine()])
    assert plugins.implementers("flow_bind_step") == ["Mine#0"]
    status = plugins.statuses()[-1]
    assert (status.name, status.state, status.provides) == ("Mine", PluginState.LOADED, ("flow_bind_step",))


def test_broken_module_without_distribution_is_an_error() -> None:
    module = types.ModuleType("mine")
    with pytest.raises(PluginError, match="mine cannot be used as a plugin: it implements no hook"):
        Plugins(Settings(), only=[], modules=[module])


def test_threads_that_need_one_plugin_load_it_once(site: Site) -> None:
    site.step("shout")
    plugins, barrier = plugins_for("shout"), threading.Barrier(8)

    def load() -> None:
        barrier.wait()
        plugins.load(STEPS, "shout")

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plugins.implementers("flow_bind_step") == ["steps:shout"]


def test_check_imports_everything_and_names_each_fault(site: Site) -> None:
    site.step("bad", "1 / 0")
    site.step("old", requires=["flow-core>=99"])
    site.step("needy", requires=["attrs>=999"])
    site.step("odd", f"{HEALTHY}\ndef flow_wrap_step(step, binder): ...")
    site.step("shout")
    checked = {item.status.dist: item for item in plugins_for("bad", "old", "needy", "odd", "shout").check()}
    findings = {dist: item.findings for dist, item in checked.items()}
    assert "raises ZeroDivisionError" in findings["flow-bad"][0]
    assert findings["flow-old"][0].startswith("needs flow-core>=99, installed is")
    assert findings["flow-needy"][0].startswith("needs attrs>=999, installed is")
    assert findings["flow-odd"] == ("flow_wrap_step lacks the decorator @hookimpl, so it is never called",)
    assert findings["flow-shout"] == ()
    assert checked["flow-shout"].load_ms > 0
