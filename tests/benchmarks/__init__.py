"""What a step, a run, a streamed chunk and a start cost, beside bare asyncio: ``python -m tests.benchmarks``."""
