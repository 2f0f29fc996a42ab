"""Plugins: loading by name behind an error boundary, registration of hooks, and the state of each."""

from __future__ import annotations

import threading
import time
import traceback
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from . import hookspecs
from ._discovery import Catalogue, Contribution, PluginKind, PluginState, PluginStatus, Verdict
from ._plugin_check import Examination, Source, examine, hook_arguments, locate, read_source
from ._plugin_memory import FailureMemory
from ._settings import FlowWarning, Settings, did_you_mean
from .errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from importlib.metadata import EntryPoint

__all__ = ["Checked", "FlowPluginWarning", "PluginKind", "PluginState", "PluginStatus", "Plugins"]


class FlowPluginWarning(FlowWarning):
    """An installed plugin cannot be used; everything else works."""


class _Unusable(Exception):
    """What was imported is not a plugin of the kind it claims to be."""


@attrs.frozen
class Attempt:
    """What came of loading a contribution: its object, or the verdict and the error; it took ``seconds``."""

    verdict: Verdict
    value: Any = None
    error: PluginError | None = None
    seconds: float = 0.0


@attrs.frozen
class Checked:
    """A contribution that was loaded to see whether it works, and what is wrong with it."""

    status: PluginStatus
    load_ms: float
    findings: tuple[str, ...]


class _Manager(pluggy.PluginManager):
    """A pluggy manager in which the kernel's defaults are asked last, whenever they are registered."""

    def __init__(self) -> None:
        super().__init__("flow")
        self.defaults: list[object] = []
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if not name.startswith("flow_"):  # pluggy asks for every attribute of a module: 3 ms a kernel without this
            return None
        options = super().parse_hookimpl_opts(plugin, name)
        if options is not None and any(plugin is default for default in self.defaults):
            return {**options, "trylast": not options["tryfirst"]}
        return options


class Plugins:
    """The plugins that a kernel can see: lists them from metadata, loads each when its name is needed.

    :param settings: which plugins are blocked or allowed, and whether failures of installed plugins are errors.
    :param only: the distributions or plugins to see beside the kernel's own; ``None`` for all.
    :param modules: objects with hook implementations to register although no distribution declares them.
    :param entry_points: what to look through instead of the installed distributions.

    >>> from flow._settings import Settings
    >>> Plugins(Settings(), only=[]).find(PluginKind.STATE, "nowhere") is None
    True
    """

    def __init__(
        self,
        settings: Settings,
        *,
        only: Collection[str] | None = None,
        modules: Iterable[object] = (),
        entry_points: Iterable[EntryPoint] | None = None,
    ) -> None:
        self.settings = settings
        self.catalogue = Catalogue(settings, only, entry_points)
        self._manager = _Manager()
        self._attempts: dict[Contribution, Attempt] = {}
        self._memory = FailureMemory()
        self._lock = threading.RLock()
        self._direct: list[tuple[str, Examination]] = []
        for module in modules:
            name = module.__name__ if isinstance(module, (ModuleType, type)) else type(module).__name__
            try:
                self._direct.append((name, self._register(module, f"{name}#{len(self._direct)}")))
            except _Unusable as error:
                raise PluginError(f"{name} cannot be used as a plugin: {error}") from error

    @property
    def hook(self) -> pluggy.HookRelay:
        """The hook relay, through which the kernel calls what was loaded."""
        return self._manager.hook

    def find(self, kind: PluginKind, name: str) -> Contribution | None:
        """Return the contribution behind `name` from metadata alone, or ``None`` when nobody provides it."""
        return self.catalogue.find(kind, name)

    def load(self, kind: PluginKind, name: str) -> Any:
        """Import what provides `name`, register its hooks if its kind has any, and return the object.

        Raises `PluginError` that names distribution, cause and cure when it is absent, blocked or broken.
        """
        contribution = self.find(kind, name)
        if contribution is None:
            raise self.catalogue.missing(kind, name)
        known = contribution in self._attempts
        attempt = self.attempt(contribution)
        if attempt.error is not None:
            raise attempt.error
        for rival in () if known else self.catalogue.rivals(contribution):
            self._complain(_refusal(rival, self.catalogue.verdict(rival)))
        return attempt.value

    def load_policies(self) -> None:
        """Load every policy set; one that fails is one `FlowPluginWarning`, in strict mode a `PluginError`."""
        policies = [item for item in self.catalogue.contributions if item.kind is PluginKind.POLICIES]
        for item in reversed(policies):  # pluggy asks first who came last, so they are asked in alphabetical order
            attempt = self.attempt(item)
            replaced = item.is_default and attempt.verdict.state is PluginState.SHADOWED
            if attempt.error is not None and not replaced and attempt.verdict.state is not PluginState.BLOCKED:
                self._complain(attempt.error)

    def attempt(self, contribution: Contribution) -> Attempt:
        """Load `contribution` unless that was tried before, and say what came of it. Raises nothing."""
        with self._lock:
            if contribution not in self._attempts:
                started = time.perf_counter()
                attempt = self._load(contribution)
                self._attempts[contribution] = attrs.evolve(attempt, seconds=time.perf_counter() - started)
            return self._attempts[contribution]

    def _load(self, contribution: Contribution) -> Attempt:
        verdict = self.catalogue.verdict(contribution)
        if verdict.state is not PluginState.AVAILABLE:
            return Attempt(verdict, error=_refusal(contribution, verdict))
        try:
            value = contribution.entry.load()
            self._accept(contribution, value)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the boundary that keeps a broken plugin to itself)
            absence = self._absence(contribution) if isinstance(error, ModuleNotFoundError) else None
            verdict = absence or Verdict(PluginState.FAILED, _cause(error), self.catalogue.cure(contribution))
            self._memory.remember(_key(contribution, locate(contribution.entry.module)[0]), verdict.reason)
            refusal = _refusal(contribution, verdict)
            refusal.__cause__ = error
            return Attempt(verdict, error=refusal)
        if self._memory:
            self._memory.forget(_key(contribution, locate(contribution.entry.module)[0]))
        return Attempt(Verdict(PluginState.LOADED), value)

    def _accept(self, contribution: Contribution, value: Any) -> None:
        kind = contribution.kind
        if kind.hook is not None:
            self._register(value, contribution.qualified, kind.hook, is_default=contribution.is_default)
        elif kind is PluginKind.VALIDATORS:
            _require(isinstance(value, type), value, "a class")
        elif kind is PluginKind.COMMANDS:
            import typer  # here, because only the command line loads commands

            _require(isinstance(value, typer.Typer), value, "a typer.Typer")
        else:
            _require(callable(value), value, "callable")

    def _register(self, plugin: Any, name: str, required: str = "", *, is_default: bool = False) -> Examination:
        examination = examine(plugin, required)
        if examination.problems:
            raise _Unusable("; ".join(examination.problems))
        if self._manager.is_registered(plugin):  # one module may serve several names
            return examination
        if is_default:
            self._manager.defaults.append(plugin)
        try:
            self._manager.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            # Depending on its version, pluggy leaves a plugin that it refuses registered, with half of its hooks.
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise _Unusable(str(error).splitlines()[-1]) from error
        return examination

    def _complain(self, error: PluginError) -> None:
        if self.settings.strict:
            raise error
        warnings.warn(str(error), FlowPluginWarning, stacklevel=4)

    def statuses(self) -> list[PluginStatus]:
        """Return the state of every plugin that can be seen, without importing any."""
        direct = [
            PluginStatus(name, PluginKind.POLICIES, "", "", PluginState.LOADED, provides=examination.hooks)
            for name, examination in self._direct
        ]
        return [*map(self.status, self.catalogue.contributions), *direct]

    def status(self, contribution: Contribution) -> PluginStatus:
        """Return the state of one plugin; of one that was not loaded, as far as metadata and source tell."""
        attempt = self._attempts.get(contribution)
        verdict = self.catalogue.verdict(contribution) if attempt is None else attempt.verdict
        is_hooks, entry = contribution.kind.hook is not None, contribution.entry
        provides: tuple[str, ...] = (entry.attr or entry.module,)
        if is_hooks and attempt is not None and verdict.state is PluginState.LOADED:
            provides = examine(attempt.value).hooks
        elif verdict.state is PluginState.AVAILABLE:
            source = read_source(entry.module, hooks=is_hooks)
            verdict, provides = self._foreseen(contribution, source), source.hooks or provides
        package = contribution.package
        return PluginStatus(
            contribution.name, contribution.kind, package.name, package.version,
            verdict.state, verdict.reason, provides, verdict.cure,
        )  # fmt: skip

    def _foreseen(self, contribution: Contribution, source: Source) -> Verdict:
        """Say how loading would end, when that is certain without doing it."""
        if absence := self._absence(contribution):
            return absence
        reason = source.problem or self._memory.recall(_key(contribution, source.path))
        return Verdict(PluginState.FAILED, reason, self.catalogue.cure(contribution)) if reason else Verdict()

    def _absence(self, contribution: Contribution) -> Verdict | None:
        """Return the verdict on a plugin of which a requirement is not installed at all, or ``None``."""
        absent = [] if contribution.is_default else contribution.package.absent()
        if not absent:
            return None
        cure = f"pip install '{absent[0].requirement}', or {self.catalogue.cure(contribution)}"
        return Verdict(PluginState.FAILED, f"needs {absent[0]}", cure)

    def check(self) -> list[Checked]:
        """Import every plugin and return what is wrong with each."""
        return [self._checked(contribution) for contribution in self.catalogue.contributions]

    def _checked(self, contribution: Contribution) -> Checked:
        attempt = self.attempt(contribution)
        status = self.status(contribution)
        replaced = contribution.is_default and status.state is PluginState.SHADOWED
        findings = [status.reason] if status.reason and not replaced and status.state is not PluginState.BLOCKED else []
        if status.state is PluginState.LOADED:
            findings += [f"needs {fault}" for fault in contribution.package.unmet()]
            findings += examine(attempt.value).remarks if contribution.kind.hook is not None else ()
        return Checked(status, attempt.seconds * 1000, tuple(findings))

    def implementers(self, hook_name: str) -> list[str]:
        """Return who implements a hook among what is loaded, such as ``steps:loop``, in the order of the calls."""
        if hook_name not in hook_arguments():
            raise ConfigurationError(f"{hook_name} is not a hook", hint=did_you_mean(hook_name, hook_arguments()))
        caller: pluggy.HookCaller = vars(self.hook)[hook_name]
        return [implementation.plugin_name for implementation in reversed(caller.get_hookimpls())]


def _require(fulfilled: bool, value: object, what: str) -> None:
    if not fulfilled:
        raise _Unusable(f"its entry point leads to {value!r:.60}, which is not {what}")


def _refusal(contribution: Contribution, verdict: Verdict) -> PluginError:
    package = contribution.package
    predicate = "failed" if verdict.state is PluginState.FAILED else f"is {verdict.state}"
    message = f"plugin {contribution.qualified} from {package.name} {package.version} {predicate}: {verdict.reason}"
    return PluginError(message, hint=f"Try: {verdict.cure}" if verdict.cure else None)


def _key(contribution: Contribution, path: Path | None) -> str:
    """Return what a failure is remembered by: it changes when the module does."""
    written = path.stat().st_mtime_ns if path is not None and path.exists() else 0
    return f"{contribution.qualified} = {contribution.entry.value} @ {path} {written}"


def _cause(error: BaseException) -> str:
    if isinstance(error, _Unusable):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"needs the module {error.name}, which is not installed"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(frame.filename)
    message = (str(error).splitlines() or [""])[0]
    place = f"{path.parent.name}/{path.name}, line {frame.lineno}"
    return f"raises {type(error).__name__}({message!r}) when imported ({place})"
