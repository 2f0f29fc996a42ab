"""Discovery: what metadata alone says about installed plugins."""

from __future__ import annotations

import sys

import pytest

from core.tests.fake_site import HEALTHY, Site
from flow._discovery import Catalogue, PluginKind, PluginState, provider_of
from flow._settings import Settings
from flow.errors import ConfigurationError, PluginError

STEPS = PluginKind.STEPS


def state_of(catalogue: Catalogue, dist: str) -> tuple[PluginState, str, str]:
    item = next(item for item in catalogue.contributions if item.dist == dist)
    verdict = catalogue.verdict(item)
    return verdict.state, verdict.reason, verdict.cure


def test_contribution_is_found_without_importing_it(site: Site) -> None:
    site.step("shout")
    found = Catalogue(Settings()).find(STEPS, "shout")
    assert found is not None
    assert (found.dist, found.package.version, found.qualified) == ("flow-shout", "0.1.0", "steps:shout")
    assert "flow_shout" not in sys.modules


def test_first_of_two_installations_of_one_distribution_counts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.step("shout")
    second = Site(site.packages.parent / "second", site.work)
    second.packages.mkdir()
    second.step("shout", version="0.2.0")
    monkeypatch.syspath_prepend(str(second.packages))
    versions = [item.package.version for item in Catalogue(Settings()).contributions if item.name == "shout"]
    assert versions == ["0.2.0"]


@pytest.mark.parametrize("only", [["shout"], ["flow-shout"], ["Flow_Shout"], ["steps:shout"]])
def test_only_shows_what_it_names(site: Site, only: list[str]) -> None:
    site.step("shout")
    site.step("whisper")
    catalogue = Catalogue(Settings(), only)
    assert catalogue.find(STEPS, "shout") is not None
    assert catalogue.find(STEPS, "whisper") is None


@pytest.mark.parametrize("name", ["shout", "flow-shout", "Flow.Shout", "steps:shout"])
def test_blocked_by_entry_point_distribution_or_kind_and_name(site: Site, name: str) -> None:
    site.step("shout")
    settings = Settings(block=frozenset({name}), origins={"plugins.block": "FLOW_PLUGINS_BLOCK"})
    state, reason, cure = state_of(Catalogue(settings), "flow-shout")
    assert state is PluginState.BLOCKED
    assert reason == f"FLOW_PLUGINS_BLOCK names {name}"
    assert cure == f"take {name} out of FLOW_PLUGINS_BLOCK"


def test_block_of_a_file_is_cured_by_unblock(site: Site) -> None:
    site.step("shout")
    (site.work / "flow.toml").write_text('[plugins]\nblock = ["shout"]')
    _, _, cure = state_of(Catalogue(Settings.load(site.work, {})), "flow-shout")
    assert cure == "flow plugins unblock shout"


def test_empty_allow_leaves_only_the_kernels_own(site: Site) -> None:
    site.step("shout")
    catalogue = Catalogue(Settings(allow=frozenset()))
    assert state_of(catalogue, "flow-shout")[0] is PluginState.BLOCKED
    default = catalogue.find(STEPS, "step")
    assert default is not None
    assert catalogue.verdict(default).state is PluginState.AVAILABLE


@pytest.mark.parametrize("requirement", ["flow-core>=99", "flow-core<0.1", "Flow-Core (>=99)"])
def test_range_that_excludes_the_installed_kernel_is_incompatible(site: Site, requirement: str) -> None:
    site.step("shout", requires=[requirement])
    state, reason, cure = state_of(Catalogue(Settings()), "flow-shout")
    assert state is PluginState.INCOMPATIBLE
    assert reason.lower().startswith("needs flow-core")
    assert "installed is" in reason
    assert cure == "pip install -U flow-shout flow-core"


@pytest.mark.parametrize(
    "requirements",
    [[], ["flow-core"], ["flow-core>=0.0.1"], ["flow-core>=99; extra == 'future'"], ["flow-core-extras>=99"], ["]["]],
)
def test_other_requirements_are_compatible(site: Site, requirements: list[str]) -> None:
    site.step("shout", requires=requirements)
    assert state_of(Catalogue(Settings()), "flow-shout")[0] is PluginState.AVAILABLE


def test_third_party_replaces_a_default_which_is_listed_as_shadowed(site: Site) -> None:
    site.add("flow-better", {"flow.steps": {"step": "flow_better"}}, {"flow_better": HEALTHY})
    catalogue = Catalogue(Settings())
    winner = catalogue.find(STEPS, "step")
    assert winner is not None
    assert winner.dist == "flow-better"
    default = next(item for item in catalogue.contributions if item.is_default and item.qualified == "steps:step")
    assert catalogue.verdict(default).state is PluginState.SHADOWED
    assert catalogue.verdict(default).reason == "replaced by flow-better"
    assert catalogue.rivals(winner) == []


def test_blocked_replacement_gives_the_default_back(site: Site) -> None:
    site.add("flow-better", {"flow.steps": {"step": "flow_better"}}, {"flow_better": HEALTHY})
    found = Catalogue(Settings(block=frozenset({"flow-better"}))).find(STEPS, "step")
    assert found is not None
    assert found.is_default


def test_first_in_the_alphabet_of_two_claimants_wins_and_the_other_says_so(site: Site) -> None:
    for dist in ("flow-zeta", "flow-alpha"):
        site.add(dist, {"flow.steps": {"shout": dist.replace("-", "_")}}, {dist.replace("-", "_"): HEALTHY})
    catalogue = Catalogue(Settings())
    winner = catalogue.find(STEPS, "shout")
    assert winner is not None
    assert winner.dist == "flow-alpha"
    assert [rival.dist for rival in catalogue.rivals(winner)] == ["flow-zeta"]
    state, reason, cure = state_of(catalogue, "flow-zeta")
    assert state is PluginState.SHADOWED
    assert "flow-alpha provides steps:shout too" in reason
    assert cure == "pip uninstall flow-zeta, or flow plugins block flow-alpha to use this one"


def test_incompatible_claimant_does_not_win(site: Site) -> None:
    site.add("flow-a", {"flow.steps": {"shout": "flow_a"}}, {"flow_a": HEALTHY}, requires=["flow-core>=99"])
    site.add("flow-b", {"flow.steps": {"shout": "flow_b"}}, {"flow_b": HEALTHY})
    found = Catalogue(Settings()).find(STEPS, "shout")
    assert found is not None
    assert found.dist == "flow-b"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (STEPS, "shoot", "no installed plugin provides the step kind 'shoot'. Did you mean shout?"),
        (STEPS, "loop", "step kind 'loop' comes from flow-loop. pip install flow-loop"),
        (PluginKind.DSL, "loop_until", "Step.loop_until comes from flow-loop. pip install flow-loop"),
        (PluginKind.COMMANDS, "lens", "flow lens comes from flow-lens. pip install flow-lens"),
        (PluginKind.COMMANDS, "plugin", "there is no flow plugin. Did you mean plugins?"),
        (PluginKind.STATE, "xyz", "provides the state URL scheme 'xyz'. See flow plugins list --all --kind state"),
    ],
)
def test_missing_name_says_who_has_it_or_what_was_meant(site: Site, kind: PluginKind, name: str, message: str) -> None:
    site.step("shout")
    assert message in str(Catalogue(Settings(), ["flow-shout"]).missing(kind, name))


def test_unknown_plugin_name_is_refused_with_a_suggestion(site: Site) -> None:
    site.step("shout")
    with pytest.raises(PluginError, match=r"no plugin is called 'shoot'. Did you mean shout"):
        Catalogue(Settings()).named("shoot")


@pytest.mark.parametrize(("word", "kind"), [("steps", STEPS), ("step", STEPS), ("policy", PluginKind.POLICIES)])
def test_kind_is_understood_in_singular_and_plural(word: str, kind: PluginKind) -> None:
    assert PluginKind.parse(word) is kind


def test_unknown_kind_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean tracers"):
        PluginKind.parse("tracrs")


def test_install_hints_name_only_groups_that_exist() -> None:
    assert provider_of(PluginKind.STATE, "sqlite") == "flow-sqlite"
    assert provider_of(PluginKind.STATE, "nowhere") is None
