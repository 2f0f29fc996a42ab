"""``flow runs``: the table, one run in full, filters, and what is never shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.tests.command_line import Done
from flow import RunRecord, Usage
from flow._cli.questions import answer_in_words
from flow._cli.run_filters import STATUSES, moment_of
from flow._cli.run_views import short_ids
from flow._cli.store import without_secrets
from flow._cli.table import aligned
from flow._cli.wording import ago, columns, cut, duration, iso, moment, one_line
from flow._lease import new_owner, retire_owner

MADE_UP = "019ab0c2d3e4f5061728394a5b6"
NOW = 1_790_000_000.0
Store = Callable[..., None]


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is always `NOW`."""
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.fixture
def put(kept: Any, cli: Any) -> Store:
    """Store a run that began two minutes before `NOW` in ``kept://``."""
    from flow._builtin.memory_state import MemoryState

    store = kept.STORES["kept://"] = MemoryState()

    def create(run_id: str, **fields: Any) -> None:
        given = {"pipeline": "triage", "fingerprint": "f", "created_at": NOW - 120, "updated_at": NOW - 90}
        asyncio.run(store.create_run(RunRecord(run_id=run_id, **{**given, **fields}), 30.0))

    return create


@pytest.fixture
def runs(cli: Any) -> Callable[..., Done]:
    """List the runs in ``kept://``."""

    def list_runs(*arguments: str) -> Done:
        done: Done = cli("runs", "--state", "kept://", *arguments)
        return done

    return list_runs


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Print to a terminal of so many columns."""

    def resize(width: int) -> None:
        monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
        monkeypatch.setenv("COLUMNS", str(width))

    return resize


def asking(*messages: str, **more: Any) -> bytes:
    return orjson.dumps([{"path": f"{i}:ask", "message": text, **more} for i, text in enumerate(messages)])


def listed(done: Done) -> list[str]:
    assert done.code == 0, done.err
    return [line.split()[0] for line in done.out.splitlines()[1:]]


# -- the table


def test_each_run_is_one_line_where_nobody_looks(put: Store, runs: Any) -> None:
    put("done", status="completed", usage=Usage(0.0123, 1000, 234))
    put(MADE_UP, status="failed", pipeline="a long name of a pipeline that is cut", error="no table\nin it")
    done = runs()
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "RUN                          PIPELINE                  STATUS     STARTED                          TOOK"
        "     COST  TOKENS  REMARK\n"
        f"{MADE_UP}  a long name of a pipe...  failed     2026-09-21T14:11:20.000+00:00  30.0 s"
        "        -       -  no table in it\n"
        "done                         triage                    completed  2026-09-21T14:11:20.000+00:00  30.0 s"
        "  $0.0123   1,234\n"
    )


def test_table_fits_eighty_columns(put: Store, runs: Any, screen: Any) -> None:
    put(MADE_UP, status="deadline_exceeded", pipeline="x" * 30, usage=Usage(1.5, 10_000_000), error="late " * 30)
    put("other", status="paused", pending=asking("Which colour?", "How many?"))
    screen(80)
    assert runs().out.splitlines() == [
        "RUN             PIPELINE           STATUS             STARTED      TOOK     COST",
        "other           triage             paused             2 min ago  30.0 s        -",
        "  0:ask asks: Which colour?; 1:ask asks: How many?",
        "019ab0c2d3e4f5  xxxxxxxxxxxxxx...  deadline_exceeded  2 min ago  30.0 s  $1.5000",
        f"  {'late ' * 15}...",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_lines_are_as_wide_as_the_screen_at_most(put: Store, runs: Any, screen: Any, width: int) -> None:
    put(MADE_UP, status="deadline_exceeded", pipeline="長い名前" * 10, usage=Usage(1.5, 10_000_000), error="é漢" * 99)
    screen(width)
    assert all(columns(line) <= max(width, 56) for line in runs().out.splitlines())


def test_ids_are_cut_so_that_they_differ(put: Store, runs: Any, screen: Any) -> None:
    for end in ("a", "b"):
        put(f"{MADE_UP[:-1]}{end}")
    screen(200)
    assert listed(runs())[::2] == [f"{MADE_UP[:-1]}b", f"{MADE_UP[:-1]}a"]


def test_what_a_store_holds_cannot_control_the_terminal(put: Store, runs: Any) -> None:
    put("r", status="failed\x1b[2J", pipeline="p\x9b31m", error="\x1b]0;title\x07\u202e", metadata={"k\x1b": "v\x1b"})
    put("q", status="paused", pending=asking("\x1b[31mred\r\x08", schema={"enum": ["\x1b[0m"]}))
    for done in (runs(), runs("r"), runs("q")):
        assert all(letter.isprintable() for letter in done.out.replace("\n", ""))


def test_run_whose_process_is_gone_is_told_from_one_that_works(put: Store, runs: Any) -> None:
    living, gone = new_owner(), new_owner()
    retire_owner(gone)
    put("living", owner=living)
    put("gone", owner=gone)
    assert listed(runs()) == ["gone", "living"]
    assert [line.partition("  -  ")[2].split("  ")[-1].strip() for line in runs().out.splitlines()[1:]] == [
        "its process is gone; flow recover continues it",
        "-",
    ]
    assert [run["orphaned"] for run in json.loads(runs("--json").out)] == [True, False]
    assert "owner     " in runs("living").out
    assert "continue" not in runs("living").out
    assert ", which is gone\n" in runs("gone").out
    assert "continue  flow resume gone --state kept://\n" in runs("gone").out


# -- filters


def test_newest_runs_are_listed_first_and_the_rest_on_demand(put: Store, runs: Any) -> None:
    for number in range(25):
        put(f"r{number}", status="completed" if number % 2 else "failed", created_at=NOW - 100 + number)
    newest_first = [f"r{number}" for number in reversed(range(25))]
    assert listed(runs()) == newest_first[:20]
    assert runs().err == "there are more: --offset 20, or --all\n"
    assert listed(runs("--offset", "20")) == newest_first[20:]
    assert runs("--offset", "20").err == ""
    assert listed(runs("--limit", "3", "--offset", "1")) == newest_first[1:4]
    assert listed(runs("--all")) == newest_first
    both = ["--status", "failed", "--status", "completed"]
    assert listed(runs(*both, "--limit", "3", "--offset", "2")) == newest_first[2:5]
    assert listed(runs(*both, "--all")) == newest_first
    assert listed(runs("--status", "failed", "--limit", "2")) == ["r24", "r22"]


def test_filters_go_together(put: Store, runs: Any) -> None:
    put("old", created_at=NOW - 7200, status="failed")
    put("new", status="failed")
    put("other", status="failed", pipeline="billing")
    put("fine", status="completed")
    wanted = ["--status", "failed", "--pipeline", "triage"]
    assert listed(runs(*wanted)) == ["new", "old"]
    assert listed(runs(*wanted, "--since", "1h")) == ["new"]
    assert listed(runs(*wanted, "--since", "2h")) == ["new", "old"]


@pytest.mark.parametrize("text", ["' OR 1=1 --", '"; DROP TABLE runs; --', "%", "triage' --", "*", ""])
def test_pipeline_is_compared_and_nothing_else(put: Store, runs: Any, text: str) -> None:
    put("r")
    done = runs("--pipeline", text)
    assert (done.code, done.out, done.err) == (0, "", "no such runs are stored in kept://\n")
    assert listed(runs()) == ["r"]


@pytest.mark.parametrize("text", ["done", "completed'", "' OR 1=1 --", "", "completed\n", "COMPLETED"])
def test_unknown_status_is_refused_with_the_known_ones(put: Store, runs: Any, text: str) -> None:
    done = runs("--status", text)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {text!r} is no status of a run\nhint: ")
    assert f"The statuses are {', '.join(STATUSES)}\n" in done.err


def test_status_that_is_nearly_known_is_guessed(put: Store, runs: Any) -> None:
    assert "hint: Did you mean completed? The statuses" in runs("--status", "complete").err


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", NOW - 90),
        ("30m", NOW - 1800),
        ("2h", NOW - 7200),
        ("3d", NOW - 3 * 86400),
        ("1w", NOW - 7 * 86400),
        ("2026-09-21T14:11:20+00:00", NOW - 120),
        ("2026-09-21T14:11:20Z", NOW - 120),
    ],
)
def test_since_is_an_age_or_a_time(text: str, at: float) -> None:
    assert moment_of(text) == at


@pytest.mark.parametrize(
    "text", ["", "2", "h", "-2h", "2 h", "2h\n", "２h", "1e3s", "9999999d", "yesterday", "2026-13-01", "nan", "2h' --"]
)
def test_other_times_are_refused(put: Store, runs: Any, text: str) -> None:
    done = runs(f"--since={text}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: --since: {text!r} is no time\nhint: Write it like 90s")


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "x"], ["--offset", "-1"]])
def test_numbers_are_checked(put: Store, runs: Any, arguments: list[str]) -> None:
    assert runs(*arguments).code == 2


# -- stores


def test_empty_store_says_so(runs: Any, put: Store) -> None:
    assert runs() == Done(0, "", "no runs are stored in kept://\n")
    assert runs("--json") == Done(0, "[]\n", "no runs are stored in kept://\n")
    assert runs("--status", "failed").err == "no such runs are stored in kept://\n"


def test_store_may_be_a_setting(cli: Any, put: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put("r")
    monkeypatch.setenv("FLOW_STATE", "kept://")
    assert listed(cli("runs")) == ["r"]


def test_store_has_to_be_named(cli: Any) -> None:
    done = cli("runs")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: no state store is named\nhint: Name one: --state sqlite:///runs.db, FLOW_STATE")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///typo.db", "typo.db"),
        ("sqlite:///typo.db?synchronous=full", "typo.db"),
        ("sqlite:///a%20b.db", "a b.db"),
        ("sqlite:////no/where/typo.db", "/no/where/typo.db"),
        ("file:///no/where", "/no/where"),
    ],
)
@pytest.mark.parametrize("command", [["runs"], ["runs", "r"], ["resume", "r"], ["recover"]], ids=" ".join)
def test_file_that_does_not_exist_is_not_made_by_reading_it(cli: Any, command: list[str], url: str, path: str) -> None:
    done = cli(*command, "--state", url)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: nothing is stored in {url}: {path} does not exist\nhint: ")
    assert os.listdir() == []  # noqa: PTH208


def test_password_of_the_store_is_not_printed(cli: Any, kept: Any) -> None:
    done = cli("runs", "--state", "kept://me:geheim@host/runs?sslpassword=geheim")
    assert done == Done(0, "", "no runs are stored in kept://me:***@host/runs?sslpassword=***\n")
    done = cli("runs", "r", "--state", "kept://me:geheim@host/runs")
    assert (done.code, "geheim" in done.err) == (2, False)


@pytest.mark.parametrize("url", ["nowhere://me:geheim@host", "nowhere:me:geheim@host"])
def test_password_in_a_url_that_cannot_be_opened_is_not_printed(cli: Any, url: str) -> None:
    done = cli("runs", "--state", url)
    assert done.code == 2
    assert "geheim" not in done.err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///runs.db", "sqlite:///runs.db"),
        ("pg://me@host/x", "pg://me@host/x"),
        ("pg://me:p%40ss@host/x", "pg://me:***@host/x"),
        ("pg://me:a@b@host/x", "pg://me:***@host/x"),
        ("pg://me:a/b@host/x", "pg://me:***@host/x"),
        ("pg:me:geheim@host/x", "pg:me:***@host/x"),
        ("pg://host:5432/x", "pg://host:5432/x"),
        ("pg://:secret@host", "pg://:***@host"),
        ("pg://host/x?user=me&password=a&api_key=b&c=d", "pg://host/x?user=me&password=***&api_key=***&c=d"),
        ("pg://host/a\x1b[0m", "pg://host/a\\x1b[0m"),
    ],
)
def test_secrets_are_taken_out_of_urls(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


# -- one run


def test_one_run_is_shown_with_all_that_matters(put: Store, runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"properties": {"name": {"type": "string"}, "score": {"type": "integer"}}, "required": ["name"]}
    put(
        MADE_UP,
        status="paused",
        usage=Usage(0.5, 1000, 1, 2),
        recoveries=2,
        deadline_at=NOW + 60,
        pending=asking("Which label?\n  think!", schema=schema, deadline=NOW + 5),
        metadata={"app": "/apps/app.py:flow", "ticket": "7", "input": "typed"},
        input=b'"the prompt"',
        context=b'{"initial_prompt": "the prompt"}',
    )
    assert runs(MADE_UP[:9]).out.splitlines() == [
        f"run        {MADE_UP}",
        "pipeline   triage",
        "status     paused",
        f"started    {moment(NOW - 120)} (2 min ago)",
        f"changed    {moment(NOW - 90)} (1 min ago), 30.0 s after the start",
        f"deadline   {moment(NOW + 60)}",
        "usage      $0.5000, 1,001 tokens, 2 requests",
        "recovered  2 times",
        "app        /apps/app.py:flow",
        "ticket     7",
        "asks       0:ask: Which label?",
        "               think!",
        '             answer: JSON such as {"name": text, "score" (optional): a whole number}',
        f"             until:  {moment(NOW + 5)}",
        f"continue   flow resume {MADE_UP} --state kept:// --answer TEXT",
    ]


def test_failed_run_is_shown_with_its_error(put: Store, runs: Any) -> None:
    put("r", status="limit_exceeded", error="Cost limit of $0.15 exceeded")
    lines = runs("r").out.splitlines()
    assert "status    limit exceeded" in lines
    assert "error     Cost limit of $0.15 exceeded" in lines
    assert lines[-1] == "continue  flow resume r --state kept://"


def test_completed_run_is_not_to_be_continued(put: Store, runs: Any) -> None:
    put("r", status="completed")
    assert "resume" not in runs("r").out


def test_questions_are_answered_by_path_when_there_are_several(put: Store, runs: Any) -> None:
    put("r", status="paused", pending=asking("Which?", "What?"))
    assert runs("r").out.endswith("flow resume r --state kept:// --answer 0:ask=TEXT --answer 1:ask=TEXT\n")


def test_json_has_the_names_of_the_record_and_no_content(put: Store, runs: Any) -> None:
    put(
        "r",
        status="paused",
        usage=Usage(0.5, 1000, 1, 2),
        pending=asking("Which?", since=NOW - 90, step="fingerprint"),
        metadata={"app": "/apps/app.py", "input": "typed"},
        input=b'"geheim"',
        context=b'{"initial_prompt": "geheim"}',
    )
    one, (many,) = json.loads(runs("r", "--json").out), json.loads(runs("--json").out)
    assert one == many
    assert "geheim" not in json.dumps(one)
    hidden = {"input", "context"}
    assert {name for name in RunRecord.__slots__ if not name.startswith("__")} - hidden <= set(one)
    assert one["usage"] == {"cost_usd": 0.5, "input_tokens": 1000, "output_tokens": 1, "requests": 2}
    assert (one["total_cost_usd"], one["total_tokens"]) == (0.5, 1001)
    assert (one["created_at"], one["deadline_at"]) == ("2026-09-21T14:11:20.000+00:00", None)
    assert one["metadata"] == {"app": "/apps/app.py"}
    assert one["pending"] == [
        {
            "path": "0:ask",
            "message": "Which?",
            "schema": None,
            "since": "2026-09-21T14:11:50.000+00:00",
            "deadline": None,
        }
    ]


def test_beginning_of_an_id_is_enough_when_it_is_the_only_one(put: Store, runs: Any) -> None:
    for run_id in ("abc1", "abc2", "abd", "ab"):
        put(run_id)
    assert json.loads(runs("abd", "--json").out)["run_id"] == "abd"
    assert json.loads(runs("ab", "--json").out)["run_id"] == "ab"
    done = runs("abc")
    assert done == Done(2, "", "error: 2 runs begin with 'abc': abc2, abc1\nhint: Type more of the one you mean\n")


def test_run_that_does_not_exist_is_named_with_its_store(put: Store, runs: Any) -> None:
    done = runs("nope")
    assert done.code == 2
    assert done.err.startswith("error: no run in kept:// has an id that is or begins with 'nope'\n")


@pytest.mark.parametrize(
    "run_id", ["../x", "..", ".", "%00", "a/b", "a\\b", "a\n", "a b", "\x00", "é", "a" * 129, "_a", "con:", "*", "a%"]
)
@pytest.mark.parametrize("command", ["runs", "resume"])
def test_id_that_is_none_is_refused_before_the_store_is_opened(cli: Any, kept: Any, command: str, run_id: str) -> None:
    done = cli(command, "--state", "kept://", run_id)
    assert (done.code, done.out) == (2, "")
    assert "cannot be a run id\n" in done.err


# -- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 ms"),
        (0.00012, "0.1 ms"),
        (0.25, "250 ms"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (90061, "1 d 1 h"),
        (10**9, "11574 d 1 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (-30, "now"),
        (0.5, "now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (7199, "1 h ago"),
        (86400, "1 d ago"),
        (31 * 86400, "2026-08-21"),
    ],
)
def test_times_are_told_from_now(before: float, words: str) -> None:
    assert ago(NOW - before) == words


def test_time_ahead_is_told_as_it_is() -> None:
    assert ago(NOW + 3600) == moment(NOW + 3600)


def test_absent_times_are_null() -> None:
    assert (iso(None), iso(0.0)) == (None, None)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("hello", 5, "hello"),
        ("hello", 4, "h..."),
        ("漢字漢字", 7, "漢字..."),
        ("é" * 5, 4, "é..."),
        ("\udcff", None, "\\udcff"),
    ],
)
def test_texts_are_cut_by_columns(text: str, width: int | None, shown: str) -> None:
    assert one_line(text, width) == shown
    assert cut(shown, None) == shown


def test_columns_are_aligned_whatever_is_in_them() -> None:
    assert aligned([["a", "b"], ["漢", "c"]], width=80) == ["a   b", "漢  c"]
    assert aligned([["a", "10"], ["bb", "1"]], to_the_right=[1]) == ["a   10", "bb   1"]


def test_short_ids_stay_as_they_are() -> None:
    assert short_ids([]) == []
    assert short_ids(["a", "b" * 23]) == ["a", "b" * 23]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "anything"),
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "date"}, "a date such as 2025-12-31"),
        ({"const": 5}, "5"),
        ({"enum": ["yes", "no"]}, "yes or no"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "a whole number or null"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, 'a JSON list of "a" or "b"'),
        ({"type": "object"}, "a JSON object"),
        ({"type": ["string", "null"]}, "anything"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "boolean"}}}, "true or false"),
        ({"$ref": "#/$defs/B"}, "anything"),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}},
            (
                'JSON such as {"a" (optional): {"a" (optional): {"a" (optional): {"a" (optional): {"a" (optional): '
                "...}}}}}"
            ),
        ),
    ],
)
def test_schema_is_told_in_words(schema: dict[str, Any], words: str) -> None:
    assert answer_in_words(schema) == words


# -- help


def test_help_teaches_by_example(cli: Any) -> None:
    done = cli("runs", "--help")
    assert done.code == 0
    for text in ("flow runs --state sqlite:///runs.db", "--status failed --status paused --since 2d", "limit_exceeded"):
        assert text in done.out


def test_commands_are_listed_without_being_imported(cli: Any) -> None:
    before = {name for name in sys.modules if name.startswith("flow._cli.")}
    out = cli("--help").out
    assert {name for name in sys.modules if name.startswith("flow._cli.")} == before
    for command in ("runs", "resume", "recover"):
        assert f" {command} " in out


def test_working_directory_is_what_relative_urls_start_at(cli: Any, tmp_path: Path) -> None:
    done = cli("runs", "--state", "sqlite:///below/runs.db")
    assert "below/runs.db does not exist" in done.err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("nigthly-7", "Did you mean nightly-7?"),
        ("c4d5e6", "Did you mean 0193a7b2c4d5e6f7?"),
        ("zzz", "See: flow runs"),
    ],
)
def test_an_unknown_id_gets_those_that_look_like_it(put: Store, runs: Any, typed: str, hint: str) -> None:
    put("nightly-7")
    put("0193a7b2c4d5e6f7")
    done = runs(typed)
    assert done.code == 2
    assert done.err.endswith(f"hint: {hint}\n")
