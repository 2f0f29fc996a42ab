"""Verdicts in words: a draft of what is wrong and what to do, and the critic that says what a draft leaves out."""

from __future__ import annotations

from flow_loop import Refinement

from audit.models import Assessment, Record, Verdict
from flow import step

_REMEDIES = {
    "dependencies": "install what it requires, in a version that fits",
    "entry points": "uninstall what nobody uses, or install {name} anew",
    "integrity": "install {name} {version} anew and compare",
    "licence": "let somebody read the terms and decide, then allow or waive it",
    "maturity": "look for a newer release or a successor",
    "metadata": "find out why it cannot be read, or install {name} anew",
}


class DraftRequest(Record):
    """What `refine_until` hands to its generator: the task, and what the critic said about the draft before."""

    original_input: Assessment
    feedback: str | None = None


# A model would stand here: Step("draft", Agent(..., output_type=Assessment)). There is none, but rules that give the
# same words for the same findings. As a hurried author would, they begin with the most striking thing only.
@step
def draft(task: DraftRequest) -> Assessment:
    """Write a verdict on the worst reason, and on all others that the feedback asks for."""
    return with_verdict(task.original_input, task.feedback or "")


# A critic without a model is the better one here: that nothing is left out can be checked.
@step
def review(drafted: Assessment) -> Refinement:
    """Demand that a verdict names every reason and something to do."""
    verdict = drafted.verdict or Verdict(explanation="", action="")
    untold = dict.fromkeys(reason.about for reason in drafted.reasons if reason.text not in verdict.explanation)
    missing = [f"says nothing about {', '.join(untold)}"] if untold else []
    missing += [] if verdict.action.strip() else ["recommends nothing"]
    return Refinement(is_complete=not missing, feedback="; ".join(missing) or None)


def with_verdict(assessment: Assessment, wanted: str = "") -> Assessment:
    """Return an assessment with a verdict on its first reason, and on those whose subject `wanted` names."""
    told = [r for number, r in enumerate(assessment.reasons) if number == 0 or r.about in wanted]
    remedies = "; ".join(dict.fromkeys(_REMEDIES[reason.about] for reason in told))
    action = f"{remedies[:1].upper()}{remedies[1:]}."
    verdict = Verdict(
        explanation=" ".join(f"{reason.about.capitalize()}: {reason.text}." for reason in told),
        action=action.replace("{name}", assessment.name).replace("{version}", assessment.version),
    )
    return assessment.model_copy(update={"verdict": verdict})
