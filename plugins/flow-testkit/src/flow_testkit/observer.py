"""An observer that keeps what it sees."""

from __future__ import annotations

from flow import Event, EventKind


class RecordingObserver:
    """Keeps the events of the runs that it is attached to with ``hooks=[observer]``.

    Events arrive in order, and all of them before the run has returned.

    >>> from flow import Flow, Step
    >>> observer = RecordingObserver()
    >>> result = Flow(Step("upper", str.upper), hooks=[observer]).run("hello")
    >>> [str(kind) for kind in observer.kinds]
    ['run.started', 'step.started', 'step.finished', 'run.finished']
    >>> observer.of("step.finished")[0].path
    '0:upper'
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.events.append(event)

    @property
    def kinds(self) -> list[EventKind]:
        """What happened, in order."""
        return [event.kind for event in self.events]

    @property
    def paths(self) -> list[str]:
        """The step path of each event; empty for those of the run itself."""
        return [event.path for event in self.events]

    def of(self, kind: EventKind | str) -> list[Event]:
        """Return the events of one kind; `ValueError` lists the kinds when there is no such kind."""
        if kind not in set(EventKind):
            raise ValueError(f"{kind!r} is not a kind of event; there are: {', '.join(EventKind)}")
        return [event for event in self.events if event.kind == kind]

    def clear(self) -> None:
        """Forget what was seen."""
        self.events.clear()

    def __repr__(self) -> str:
        lines = (f"  {event.kind} {event.path}".rstrip() for event in self.events)
        return "\n".join(["RecordingObserver:", *lines])
