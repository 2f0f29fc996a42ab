"""What is drawn of a structure: step types that flow-viz does not know, settings, and structures that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flow_viz import to_dot, to_mermaid, to_svg, to_text
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import Cache, ConfigurationError, Flow, Pipeline, Step, UsageLimits, structure


def same(data: Any) -> Any:
    return data


RENDERERS = [to_mermaid, to_dot, to_svg, to_text]


def lines(source: Any, **options: Any) -> list[str]:
    return to_text(source, **options).splitlines()[1:]


# -- step types of third parties


def test_labels_make_branches(acme: Any) -> None:
    jury = acme.Vote(name="jury", jurors={"strict": Step("a", len), "kind": Step("b", same) >> Step("c", same)})
    assert lines(jury) == [
        "└─ jury acme.vote",
        "   ├─ strict: a",
        "   └─ kind:",
        "      ├─ b",
        "      └─ c",
    ]
    assert to_mermaid(jury).count("-->|") == 2


def test_numbers_make_a_series(acme: Any) -> None:
    stages = acme.Stages(name="all", stages=(Step("a", len), Step("b", len)))
    assert lines(stages) == ["└─ all acme.stages", "   ├─ a", "   └─ b"]
    assert to_mermaid(stages).splitlines()[-2:] == ["  end", "  n2 --> n3"]


def test_one_child_is_a_frame_around_it(acme: Any) -> None:
    guarded = acme.Guarded(name="guard", body=Step("a", same) >> Step("b", same))
    assert lines(guarded) == ["└─ guard acme.guarded", "   ├─ a", "   └─ b"]
    assert to_dot(guarded).count("subgraph cluster_") == 1


def test_unknown_settings_are_shown_shortly(acme: Any) -> None:
    assert lines(acme.Vote(name="jury", quorum=5)) == ["└─ jury acme.vote  quorum=5"]


# -- settings of every step


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"retries": 1}, "1 retry"),
        ({"retries": 3, "timeout": 0.25}, "3 retries · timeout 250 ms"),
        ({"timeout": 90}, "timeout 1 min 30 s"),
        ({"cache": Cache(ttl=7200)}, "cached 2 h"),
        ({"cache": Cache()}, "cached"),
        ({"strict": False}, "not strict"),
        ({"gate": True}, "gate"),
        ({"usage_limits": UsageLimits(total_cost_usd_limit=1.0)}, "budget"),
        ({"temperature": 0.5}, ""),
    ],
)
def test_settings_in_words(settings: dict[str, Any], told: str) -> None:
    assert lines(Step("a", len, **settings)) == [f"└─ a  {told}".rstrip()]


def test_sub_workflow_is_a_step_with_its_pipeline_inside() -> None:
    sub = (Step("a", same) >> Step("b", same)).as_step("sub")
    assert lines(sub >> Step("c", len)) == ["├─ sub sub-workflow", "│  ├─ a", "│  └─ b", "└─ c"]


def test_secrets_and_prompts_stay_out_of_every_format(acme: Any) -> None:
    prompt = "You are " + "very " * 40
    step = Step("a", len, api_key="sk-123456", system_prompt=prompt)
    jury = acme.Vote(name="jury", api_key="sk-123456", brief=prompt, jurors={"a": step, "b": step})
    for render in RENDERERS:
        assert "quorum" not in render(jury)  # the default
        assert "sk-123" not in render(jury)
        assert "very very" not in render(jury)
        assert "blake3" not in render(jury)


# -- what can be drawn, and what cannot


@pytest.mark.parametrize("render", RENDERERS)
def test_flows_pipelines_steps_and_structures_are_drawn_alike(render: Callable[[Any], str]) -> None:
    step = Step("a", len)
    drawn = [render(one) for one in (step, Pipeline.of(step), Flow(step), structure(Pipeline.of(step)))]
    assert len(set(drawn)) == 1


@pytest.mark.parametrize("render", RENDERERS)
def test_pipeline_without_steps_says_so(render: Callable[[Any], str]) -> None:
    assert "no steps" in render(Pipeline())


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (42, "got int"),
        ("app.py", "got str"),
        ({}, "name or kind is missing"),
        ({"name": "a", "kind": 1}, "name or kind is missing"),
        ({"name": "a", "kind": "b", "children": []}, "children is no table"),
        ({"name": "a", "kind": "b", "config": "x"}, "config is no table"),
        ({"name": "a", "kind": "b", "children": {"x": None}}, "got NoneType"),
    ],
)
def test_what_cannot_be_drawn_is_refused(render: Callable[[Any], str], source: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        render(source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["retries", "timeout", "cache", "policies", "validators", "fallback", "max_loops", "choose", "x"]
)


@given(
    config=st.dictionaries(KEYS, JSON, max_size=5), types=JSON, kind=st.sampled_from(["loop", "branch", "acme", "hitl"])
)
@settings(deadline=None, max_examples=60)
def test_no_stored_settings_break_a_drawing(config: Any, types: Any, kind: str) -> None:
    inner = {"name": "in", "kind": "step", "config": config}
    stored = {"name": "a", "kind": kind, "config": config, "types": types, "children": {"x": inner, "y": inner}}
    for render in RENDERERS:
        if isinstance(config.get("fallback"), dict):
            with pytest.raises(ConfigurationError, match="no structure of a pipeline"):
                render(json.loads(json.dumps(stored)))
        else:
            assert "in" in render(json.loads(json.dumps(stored)))


@pytest.mark.parametrize("render", RENDERERS)
def test_very_deep_structure_is_closed_at_some_level(render: Callable[[Any], str]) -> None:
    deep: dict[str, Any] = {"name": "innermost", "kind": "step", "config": {}, "types": {}, "children": {}}
    for number in range(400):
        deep = {"name": f"n{number}", "kind": "acme", "config": {}, "types": {}, "children": {"body": deep}}
    assert "n399" in render(deep)


@pytest.mark.parametrize("options", [{"depth": 0}, {"max_nodes": 3}, {"direction": "RL"}])
def test_limits_that_leave_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        to_mermaid(Step("a", len), **options)


# -- the same everywhere


def test_drawings_are_the_same_in_every_process(flow_tester: Any) -> None:
    flow_tester.write(
        "draw.py",
        """
        from flow import RecoveryStrategy, Step
        from flow_viz import to_dot, to_mermaid, to_svg, to_text

        retry = RecoveryStrategy(name="net", error_types={OSError, ValueError, KeyError}, max_retries=2)
        pipeline = Step("a", str.strip, policies=[retry]) >> Step("b", len, fallback=Step("c", len)).evolve(retries=1)
        for render in (to_dot, to_mermaid, to_svg, to_text):
            print(render(pipeline))
        """,
    )
    drawn = {flow_tester.run_python("draw.py", env={"PYTHONHASHSEED": seed}).assert_success().stdout for seed in "123"}
    assert len(drawn) == 1


def test_importing_the_package_imports_no_renderer(flow_tester: Any) -> None:
    program = "import sys, flow_viz; print([name for name in sys.modules if name.startswith('flow_viz._')])"
    assert flow_tester.run_python("-c", program).assert_success().stdout.strip() == "[]"
