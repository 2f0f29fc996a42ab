"""What is not of low risk gets a verdict in words, which is refined until nothing is left out."""

from __future__ import annotations

import pytest

from audit.models import Assessment, Reason, Risk, Verdict
from audit.verdict import DraftRequest, draft, review
from examples.dependency_audit.tests.made_up_site import Site

TWO_REASONS = Assessment(
    name="broken",
    version="1.0",
    location="here",
    risk=Risk.HIGH,
    reasons=(
        Reason(risk=Risk.HIGH, about="dependencies", text="not installed: gone"),
        Reason(risk=Risk.MEDIUM, about="integrity", text="missing: broken.py"),
    ),
)


def test_low_risk_is_accepted_without_a_verdict(site: Site) -> None:
    site.add("fine")
    assert site.audit("fine").verdict is None


@pytest.mark.parametrize(
    ("lines", "drafts", "explanation"),
    [
        (["Requires-Dist: gone"], 1, "Dependencies: not installed: gone."),
        (
            ["Requires-Dist: gone", "Classifier: Development Status :: 7 - Inactive"],
            2,
            "Dependencies: not installed: gone. Maturity: looks abandoned: calls itself inactive; installed on ",
        ),
    ],
    ids=["one reason", "two reasons"],
)
def test_verdict_is_refined_until_it_names_every_reason(
    site: Site, lines: list[str], drafts: int, explanation: str
) -> None:
    site.add("broken", *lines)
    explain = site.run().step("2:audit_each/0/6:respond/high/0:explain")
    assert explain.metadata == {"iterations": drafts, "exit_reason": "condition"}
    assert explain.output.verdict.explanation.startswith(explanation)
    assert site.written().distributions[0] == explain.output


def test_first_draft_is_about_the_worst_reason_and_the_critic_asks_for_the_others() -> None:
    first = draft(DraftRequest(original_input=TWO_REASONS))
    assert review(first).feedback == "says nothing about integrity"
    second = draft(DraftRequest(original_input=TWO_REASONS, feedback="says nothing about integrity"))
    assert review(second).is_complete
    assert second.verdict == Verdict(
        explanation="Dependencies: not installed: gone. Integrity: missing: broken.py.",
        action="Install what it requires, in a version that fits; install broken 1.0 anew and compare.",
    )


def test_critic_demands_something_to_do() -> None:
    words = " ".join(reason.text for reason in TWO_REASONS.reasons)
    silent = TWO_REASONS.model_copy(update={"verdict": Verdict(explanation=words, action=" ")})
    assert review(silent).feedback == "recommends nothing"
    assert review(TWO_REASONS).feedback == "says nothing about dependencies, integrity; recommends nothing"


def test_distribution_that_cannot_be_audited_has_a_verdict_too(site: Site) -> None:
    site.add("broken", metadata="nonsense")
    site.add("fine")
    assert review(site.audit("broken")).is_complete
