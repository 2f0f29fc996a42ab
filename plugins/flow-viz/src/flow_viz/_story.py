"""What happened to each step of a pipeline in a run: many executions of one step are one tally."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from flow_viz._nodes import Node
from flow_viz._places import Places
from flow_viz._states import WORST_FIRST, State, state_of_run
from flow_viz._wording import counted, duration, money


@attrs.frozen(kw_only=True)
class Fact:
    """One finished execution of a step, as a result or a record tells it.

    :ivar attempts: its own, those of its fallback not among them.
    """

    path: str
    state: State
    seconds: float = 0.0
    attempts: int = 1
    cost_usd: float = 0.0
    fell_back: bool = False


@attrs.frozen(kw_only=True)
class Tally:
    """All executions of one step in a run.

    :ivar counts: how many ended how.
    :ivar rounds: how often what is inside was begun: iterations or items.
    """

    counts: Mapping[State, int] = attrs.field(factory=dict)
    seconds: float = 0.0
    median_s: float = 0.0
    retries: int = 0
    cost_usd: float = 0.0
    fallbacks: int = 0
    rounds: int = 0
    round_word: str = ""

    @property
    def total(self) -> int:
        """How many executions have ended."""
        return sum(self.counts.values())

    def words(self, *, has_rounds: bool = True) -> Iterator[str]:
        """Yield what a drawing tells: how many, how long, attempts and cost."""
        if self.rounds and has_rounds:
            yield counted(self.rounds, self.round_word)
        if self.total > 1:
            yield ", ".join(f"{self.counts[state]:,} {state}" for state in _GOOD_FIRST if self.counts.get(state))
            yield f"p50 {duration(self.median_s)}"
        elif self.total == 1 and next(iter(self.counts)) is not State.REPLAYED:
            yield duration(self.seconds)
        if self.retries:
            yield counted(self.retries + 1, "attempt") if self.total == 1 else counted(self.retries, "retry")
        if self.fallbacks:
            yield "fell back" if self.total == 1 else f"fell back {counted(self.fallbacks, 'time')}"
        if self.cost_usd:
            yield money(self.cost_usd)


_GOOD_FIRST = (State.DONE, *(state for state in WORST_FIRST if state is not State.DONE))
_NOTHING = Tally()


@attrs.frozen(kw_only=True)
class Story:
    """A run as it is drawn over a pipeline.

    :ivar tallies: by place, of steps that have ended at least once.
    :ivar states: by place, of everything the run has reached.
    :ivar summary: how the run went, in words; empty when only its steps are known.
    :ivar unplaced: how many executions fit no step of this pipeline.
    """

    tallies: Mapping[str, Tally]
    states: Mapping[str, State]
    state: State | None = None
    summary: tuple[str, ...] = ()
    unplaced: int = 0

    def tally(self, node: Node) -> Tally:
        """Return what is known of a step; of a fold what is known of all steps in it together."""
        return self.tallies.get(node.place, _NOTHING)

    def state_of(self, node: Node) -> State:
        """Return how a step stands; a fold stands as the worst in it."""
        if not node.is_fold:
            return self.states.get(node.place, State.IDLE)
        return min((self.states.get(hidden.place, State.IDLE) for hidden in node.hides), key=WORST_FIRST.index)

    def reached(self, node: Node) -> bool:
        """Tell whether the run came to a step."""
        return self.state_of(node) is not State.IDLE

    def words(self, node: Node) -> tuple[str, ...]:
        """Return what is drawn beside a step."""
        if not node.is_fold:
            return tuple(self.tally(node).words())
        counts = Counter(self.states.get(hidden.place, State.IDLE) for hidden in node.hides)
        return (", ".join(f"{counts[state]:,} {state}" for state in _GOOD_FIRST if counts[state]),)


def tell(
    root: Node,
    facts: Iterable[Fact],
    *,
    status: str = "",
    waiting: Sequence[str] = (),
    seconds: float | None = None,
    cost_usd: float = 0.0,
    run_id: str = "",
) -> Story:
    """Put together what happened to the steps below `root`.

    :param waiting: the paths of steps that wait for an answer.
    :param status: how the run ended, or ``running``.
    """
    places = Places(root)
    found: defaultdict[str, list[Fact]] = defaultdict(list)
    unplaced = 0
    for fact in facts:
        place = places.find(fact.path)
        if place is None:
            unplaced += 1
        else:
            found[place].append(fact)
    asked = [place for path in waiting if (place := places.find(path)) is not None]
    tallies = {place: _tally(some, places.rounds.get(place)) for place, some in found.items()}
    tallies |= {
        place: Tally(rounds=sum(rounds.values()), round_word=_word(rounds))
        for place, rounds in places.rounds.items()
        if place not in tallies
    }
    return Story(
        tallies=tallies,
        states=_states(found, asked, places),
        state=state_of_run(status) if status else None,
        summary=tuple(_summary(status, seconds, cost_usd, run_id)),
        unplaced=unplaced,
    )


def _tally(facts: Sequence[Fact], rounds: Counter[str] | None) -> Tally:
    timed = [fact.seconds for fact in facts if fact.state is State.DONE] or [fact.seconds for fact in facts]
    return Tally(
        counts=Counter(fact.state for fact in facts),
        seconds=sum(fact.seconds for fact in facts),
        median_s=statistics.median(timed),
        retries=sum(fact.attempts - 1 for fact in facts),
        cost_usd=sum(fact.cost_usd for fact in facts),
        fallbacks=sum(fact.fell_back for fact in facts),
        rounds=sum(rounds.values()) if rounds else 0,
        round_word=_word(rounds) if rounds else "",
    )


def _word(rounds: Counter[str]) -> str:
    return rounds.most_common(1)[0][0]


def _states(found: Mapping[str, Sequence[Fact]], asked: Sequence[str], places: Places) -> dict[str, State]:
    states = {place: min((fact.state for fact in facts), key=WORST_FIRST.index) for place, facts in found.items()}
    for place in [*found, *asked]:
        for outer in places.around(place):
            states.setdefault(outer, State.BEGUN)
    for place in asked:  # what is around a question was interrupted only to wait
        for outer in (place, *places.around(place)):
            if states.get(outer, State.STOPPED) in (State.STOPPED, State.BEGUN):
                states[outer] = State.PAUSED
    return states


def _summary(status: str, seconds: float | None, cost_usd: float, run_id: str) -> Iterator[str]:
    if run_id:
        yield f"run {run_id}"
    if status:
        took = "" if seconds is None else f" {'for' if status == 'running' else 'in'} {duration(seconds)}"
        yield f"{status.replace('_', ' ')}{took}"
    if cost_usd:
        yield money(cost_usd)
