"""``flow metrics``: the metrics of a store over HTTP, or once on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from flow.cli import Interruption, Store
    from flow_prometheus._server import MetricsServer

app = typer.Typer()

_HELP = (
    "Serve metrics of the runs in a store, for Prometheus to scrape, until interrupted.\n\n"
    "The store is that of --state, or that of FLOW_STATE or the settings file. It is read when it is scraped, and not "
    "more often than --interval says; programs that write to it are not slowed down. A store that cannot be read "
    "gives flow_store_up 0. The metrics: runs by pipeline and status, how long the oldest one is running or waits for "
    "an answer, runs that nobody executes any more, cost, tokens, and when a run was completed last.\n\n"
    """\b
flow metrics --state sqlite:///runs.db
flow metrics --host 0.0.0.0 --port 9100 --interval 60
flow metrics --once | sponge /var/lib/node_exporter/flow.prom
flow metrics --json | jq '.metrics[] | select(.name == "flow_store_runs")'\n\n"""
    "Counters and durations of a program while it runs come from the tracer instead: flow run --trace prometheus, with "
    "port = 9464 in the table prometheus of flow.toml.\n\n"
    "Exit codes: 0 it was printed, 2 wrong use, no such file or the port is taken, 4 the store cannot be read, "
    "130 interrupted."
)


@app.command(help=_HELP)
def metrics(
    state: Annotated[str | None, typer.Option(metavar="URL", help="The store.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Serve here; 0 is any free port.")] = 9464,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The interface; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    interval: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Least time between two readings of the store.")
    ] = 15.0,
    max_runs: Annotated[int, typer.Option(min=1, metavar="N", help="How many runs one reading looks at.")] = 10_000,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as one JSON object and end.")] = False,
) -> None:
    """Serve metrics of the runs in a store."""
    from prometheus_client import CollectorRegistry

    from flow import ConfigurationError
    from flow.cli import run_sync, store_of
    from flow_prometheus._collector import StoreCollector

    store = store_of(state)
    if not isinstance(store.where, str) or not store.outlives_the_program:
        hint = "Name a store that programs share, such as --state sqlite:///runs.db; for this one use the tracer"
        raise ConfigurationError(f"{store.name} ends with the program that fills it", hint=hint)
    run_sync(_require_openable(store))
    registry = CollectorRegistry()
    collector = StoreCollector(store.where, min_interval=interval, max_runs=max_runs)
    registry.register(collector)
    if once or as_json:
        _print(registry, store.name, as_json=as_json)
        if collector.error is not None:  # which was logged
            raise typer.Exit(4)
    else:
        _serve(registry, store.name, host, port)


def _print(registry: CollectorRegistry, store: str, *, as_json: bool) -> None:
    from prometheus_client import generate_latest

    if not as_json:
        typer.echo(generate_latest(registry).decode(), nl=False)
        return
    from flow.cli import print_json

    print_json({"store": store, "metrics": [_family(metric) for metric in registry.collect()]})


def _family(metric: Any) -> dict[str, Any]:
    return {
        "name": metric.name,
        "type": metric.type,
        "help": metric.documentation,
        "samples": [{"labels": sample.labels, "value": sample.value} for sample in metric.samples],
    }


async def _require_openable(store: Store) -> None:
    """Tell now what is mistyped: a metric would tell it late, and to somebody else."""
    async with store.opened():
        pass


def _serve(registry: CollectorRegistry, store: str, host: str, port: int) -> None:
    from flow.cli import Interruption, run_sync

    with Interruption() as interruption:
        server = _listening(registry, host, port)
        try:
            typer.echo(f"metrics of {store} at {server.url} (Ctrl-C ends it)", err=True)
            run_sync(_until(interruption))
        finally:
            server.close()
    raise typer.Exit(interruption.exit_code)


async def _until(interruption: Interruption) -> None:
    import asyncio

    stopped = asyncio.Event()
    interruption.cancels(stopped.set)
    await stopped.wait()


def _listening(registry: CollectorRegistry, host: str, port: int) -> MetricsServer:
    import errno
    import socket

    from flow import ConfigurationError
    from flow_prometheus._server import MetricsServer

    try:
        return MetricsServer(registry, host, port)
    except socket.gaierror as error:
        hint = "Write --host 127.0.0.1 for this machine alone, 0.0.0.0 for all interfaces"
        raise ConfigurationError(f"{host!r:.60} is no host: {error.strerror}", hint=hint) from error
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "Another program serves there; choose another with --port, or --port 0 for any free one"
        why = "is in use" if taken else f"cannot be used: {error.strerror}"
        raise ConfigurationError(f"port {port} of {host} {why}", hint=hint if taken else None) from error
