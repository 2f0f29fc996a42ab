"""The clock that skips."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from flow_testkit import FakeClock, simulate_error

from flow import Flow, RunStatus, Step, StepTimeout


@pytest.fixture(autouse=True)
def hurry() -> Any:
    """Nothing here may really wait."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 5


async def elapsed() -> float:
    return asyncio.get_running_loop().time()


def test_sleeping_takes_no_time(fake_clock: FakeClock) -> None:
    async def main() -> list[str]:
        async def after(seconds: float) -> str:
            await asyncio.sleep(seconds)
            return f"{seconds:g}"

        done = []
        for next_done in asyncio.as_completed([after(3600), after(60), after(86400)]):
            done.append(await next_done)
        return done

    assert fake_clock.run(main()) == ["60", "3600", "86400"]
    assert fake_clock.elapsed == 86400


def test_times_are_exact(fake_clock: FakeClock) -> None:
    async def main() -> None:
        for _ in range(10):
            await asyncio.sleep(0.1)

    fake_clock.run(main())
    assert fake_clock.elapsed == 1.0


def test_timeouts_follow_the_clock(fake_clock: FakeClock) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await asyncio.sleep(9)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()

    fake_clock.run(main())
    assert fake_clock.elapsed == 19


def test_call_later_follows_the_clock(fake_clock: FakeClock) -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        called: list[tuple[str, float]] = []
        done = asyncio.Event()
        loop.call_later(20, lambda: called.append(("late", loop.time())))
        loop.call_later(10, lambda: called.append(("early", loop.time())))
        loop.call_later(21, done.set)
        await done.wait()
        return called

    start = fake_clock.now
    assert fake_clock.run(main()) == [("early", start + 10), ("late", start + 20)]


def test_clock_goes_on_from_run_to_run(fake_clock: FakeClock) -> None:
    fake_clock.run(asyncio.sleep(5))
    before = fake_clock.now
    assert fake_clock.run(elapsed()) == before
    fake_clock.run(asyncio.sleep(5))
    assert fake_clock.elapsed == 10


def test_time_can_be_let_pass(fake_clock: FakeClock) -> None:
    async def main() -> bool:
        fired = asyncio.Event()
        asyncio.get_running_loop().call_later(30, fired.set)
        fake_clock.advance(31)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return fired.is_set()

    assert fake_clock.run(main())
    assert fake_clock.elapsed == 31
    with pytest.raises(ValueError, match="time does not go back: -1 s"):
        fake_clock.advance(-1)


def test_threads_get_the_time_they_need(fake_clock: FakeClock) -> None:
    release = threading.Event()

    async def main() -> str:
        async with asyncio.timeout(60):  # would be over at once if the clock skipped
            asyncio.get_running_loop().call_later(0.02, release.set)
            return await asyncio.to_thread(lambda: "back" if release.wait(10) else "timed out")

    assert fake_clock.run(main()) == "back"
    assert 0.02 <= fake_clock.elapsed < 5


def test_clock_skips_again_after_a_thread(fake_clock: FakeClock) -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(5)))
        await asyncio.sleep(3600)

    fake_clock.run(main())
    assert 3600 <= fake_clock.elapsed < 3605


def test_clock_skips_again_when_a_thread_was_given_up(fake_clock: FakeClock) -> None:
    release = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.to_thread(release.wait, 10)
        await asyncio.sleep(3600)
        release.set()

    fake_clock.run(main())
    assert 3600 <= fake_clock.elapsed < 3605


def test_other_threads_can_wake_the_loop(fake_clock: FakeClock) -> None:
    async def main() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(future.set_result, "woken")).start()
        return await future

    assert fake_clock.run(main()) == "woken"


def test_connections_work(fake_clock: FakeClock) -> None:
    async def main() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            return line

    assert fake_clock.run(main()) == b"HELLO\n"


def test_exceptions_come_out(fake_clock: FakeClock) -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise ValueError("out")

    with pytest.raises(ValueError, match="out"):
        fake_clock.run(main())


def test_step_timeout_and_deadline_take_no_time(fake_clock: FakeClock) -> None:
    async def slow(data: str) -> str:
        await asyncio.sleep(1000)
        return data

    timed_out = fake_clock.run(Flow(Step("slow", slow, timeout=600)).run_async("x"))
    assert isinstance(timed_out.error, StepTimeout)
    late = fake_clock.run(Flow(Step("slow", slow), deadline=300).run_async("x"))
    assert late.status is RunStatus.DEADLINE_EXCEEDED
    assert fake_clock.elapsed == 900


def test_waits_between_retries_take_no_time(fake_clock: FakeClock) -> None:
    from flow import RecoveryStrategy

    strategy = RecoveryStrategy(name="patient", max_retries=2, retry_delay_seconds=30, jitter=False)
    step = Step("flaky", simulate_error(times=2, result="done"), policies=[strategy])
    assert fake_clock.run(Flow(step).run_async()).output == "done"
    assert fake_clock.elapsed == 90


def test_sync_agents_run(fake_clock: FakeClock) -> None:
    assert fake_clock.run(Flow(Step("upper", str.upper, timeout=60)).run_async("x")).output == "X"
