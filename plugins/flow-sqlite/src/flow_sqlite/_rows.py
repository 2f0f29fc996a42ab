"""Records as rows, and rows as records; each row carries a checksum of what is in it.

JSON is stored as TEXT, so that a shell shows it. A value above `INLINE` bytes is stored once in the table ``blobs``
and its place in the row is taken by its hash, a BLOB: the two cannot be mistaken for each other, whatever the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from blake3 import blake3

from flow import RunRecord, StepRecord, Usage

INLINE = 16 * 1024

STEP_COLUMNS = (
    "run_id, path, parent, name, kind, status, attempts, started_at, latency_s, cost_usd, input_tokens, output_tokens, "
    "requests, typed, feedback, error, metadata, changes, output, checksum"
)
RUN_COLUMNS = (
    "run_id, pipeline, status, created_at, updated_at, deadline_at, fingerprint, trace_id, owner, epoch, lease_until, "
    "lease_clock, recoveries, cost_usd, input_tokens, output_tokens, requests, error, metadata, pending, input, "
    "context, wake_at, recorded, checksum"
)
LEASE_CLOCK, RECORDED = 11, 23  # the columns of a run that its record does not show

_NOTHING_SPENT = Usage()

Row = tuple[Any, ...]
Keep = Callable[[bytes], bytes]
"""Stores a large value and returns its hash."""
Fetch = Callable[[bytes], bytes]
"""Returns the value with a hash."""


class RowDamaged(Exception):
    """The content of a row is not what was written."""


def content_hash(data: bytes) -> bytes:
    """Return the blake3 hash, 32 bytes.

    >>> len(content_hash(b"data"))
    32
    """
    return blake3(data).digest()


def checksum(content: Sequence[Any]) -> bytes:
    """Return the checksum of the values of a row.

    ``None`` at the end does not count, so that a row written before a column was added stays valid.
    """
    end = len(content)
    while end and content[end - 1] is None:
        end -= 1
    return blake3(orjson.dumps(content[:end], default=bytes.hex)).digest()


def _stored(data: bytes | None, keep: Keep) -> str | bytes | None:
    if data is None:
        return None
    return data.decode() if len(data) <= INLINE else keep(data)


def _loaded(value: str | bytes | None, fetch: Fetch) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else fetch(value)


def _message(text: str | None) -> str | bytes | None:
    r"""Return what is stored for `text`: messages quote file names, and so may hold lone surrogates, which TEXT cannot.

    >>> _message("no such file: \udce4.txt")
    b'no such file: \xed\xb3\xa4.txt'
    """
    if text is None or text.isascii():
        return text
    data = text.encode("utf-8", "surrogatepass")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _loaded_message(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def step_row(run_id: str, record: StepRecord, keep: Keep) -> Row:
    """Return the row of a step; raises `ValueError` or `TypeError` when it holds what cannot be stored."""
    usage = record.usage
    content = (
        run_id,
        record.path,
        record.parent,
        record.name,
        record.kind,
        record.status,
        record.attempts,
        float(record.started_at),
        float(record.latency_s),
        float(usage.cost_usd),
        usage.input_tokens,
        usage.output_tokens,
        usage.requests,
        int(record.typed),
        _message(record.feedback),
        _message(record.error),
        _stored(record.metadata, keep),
        _stored(record.changes, keep),
        _stored(record.output, keep),
    )
    return (*content, checksum(content))


def step_records(rows: Iterable[Row], run_id: str, fetch: Fetch) -> list[StepRecord]:
    """Return the records of rows in their order; `RowDamaged` names the path whose row is not what was written."""
    records = []
    dumps, digest, nothing = orjson.dumps, blake3, _NOTHING_SPENT
    for row in rows:
        (
            owner,
            path,
            parent,
            name,
            kind,
            status,
            attempts,
            started_at,
            latency_s,
            cost_usd,
            input_tokens,
            output_tokens,
            requests,
            typed,
            feedback,
            error,
            metadata,
            changes,
            output,
            check,
        ) = row
        # The checksum of nearly every row, which has a short output, written out: this loop decides how long a
        # resumed run waits for its journal.
        plain = isinstance(output, str)
        if (
            digest(dumps(row[:-1], default=bytes.hex)).digest() if plain else checksum(row[:-1])
        ) != check or owner != run_id:
            raise RowDamaged(path)
        usage = nothing
        if cost_usd or input_tokens or output_tokens or requests:
            usage = Usage(cost_usd, input_tokens, output_tokens, requests)
        records.append(
            StepRecord(
                path=path,
                parent=parent,
                name=name,
                kind=kind,
                status=status,
                output=None if output is None else _loaded(output, fetch),
                typed=typed == 1,
                changes=None if changes is None else _loaded(changes, fetch),
                metadata=None if metadata is None else _loaded(metadata, fetch),
                usage=usage,
                attempts=attempts,
                started_at=started_at,
                latency_s=latency_s,
                feedback=None if feedback is None else _loaded_message(feedback),
                error=None if error is None else _loaded_message(error),
            )
        )
    return records


def run_row(run: RunRecord, lease_clock: float, recorded: int | None, keep: Keep) -> Row:
    """Return the row of a run.

    :param lease_clock: the end of its lease on the clock of that name.
    :param recorded: how many paths its journal had when the run was last updated: so many there must be later on.
    """
    usage = run.usage
    content = (
        run.run_id,
        run.pipeline,
        run.status,
        float(run.created_at),
        float(run.updated_at),
        None if run.deadline_at is None else float(run.deadline_at),
        run.fingerprint,
        run.trace_id,
        run.owner,
        run.epoch,
        float(run.lease_until),
        float(lease_clock),
        run.recoveries,
        float(usage.cost_usd),
        usage.input_tokens,
        usage.output_tokens,
        usage.requests,
        _message(run.error),
        orjson.dumps(dict(run.metadata)).decode(),
        _stored(run.pending, keep),
        _stored(run.input, keep),
        _stored(run.context, keep),
        None if run.wake_at is None else float(run.wake_at),
        recorded,
    )
    return (*content, checksum(content))


def run_record(row: Row, fetch: Fetch) -> RunRecord:
    """Return the record of a row; `RowDamaged` when it is not what was written."""
    if checksum(row[:-1]) != row[-1]:
        raise RowDamaged("")
    metadata: Mapping[str, str] = orjson.loads(row[18])
    return RunRecord(
        run_id=row[0],
        pipeline=row[1],
        status=row[2],
        created_at=row[3],
        updated_at=row[4],
        deadline_at=row[5],
        fingerprint=row[6],
        trace_id=row[7],
        owner=row[8],
        epoch=row[9],
        lease_until=row[10],
        recoveries=row[12],
        usage=Usage(row[13], row[14], row[15], row[16]),
        error=_loaded_message(row[17]),
        metadata=metadata,
        pending=_loaded(row[19], fetch),
        input=_loaded(row[20], fetch),
        context=_loaded(row[21], fetch),
        wake_at=row[22],
    )
