"""What may leave the process: secrets are masked, prompts and outputs withheld unless they were asked for.

Masking works on what can be recognised: secret types, telling field names, texts of a known shape. It is a net, not a
proof; the proof is that content is not written at all by default.

    >>> from flow.privacy import mask, withhold
    >>> withhold("cannot parse 'the prompt of a customer'", ["the prompt of a customer"])
    "cannot parse '[withheld]'"
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

__all__ = ["MASK", "WITHHELD", "is_secret_name", "mask", "shortened", "texts_in", "withhold"]

MASK = "****"
"""What stands in the place of a secret."""
WITHHELD = "[withheld]"
"""What stands in the place of content."""

_SECRET_TYPES = frozenset({"Secret", "SecretBytes", "SecretStr"})
_SECRET_NAME = re.compile(
    r"(?i)pass(word|wd|phrase)|secret|credential|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|authori[sz]ation|cookie"
    r"|token$|(?:^|[-_ ])(?:auth|pwd|key)$"
)
_SECRET_TEXT = re.compile(
    r"""\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,}             # OpenAI, Anthropic, Stripe
    |\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}  # GitHub
    |\bglpat-[\w-]{16,}|\bxox[abeoprs]-[\w-]{8,}        # GitLab, Slack
    |\bAKIA[0-9A-Z]{12,}|\bAIza[\w-]{20,}|\bhf_\w{16,}  # AWS, Google, Hugging Face
    |\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?             # JSON web tokens
    |-----BEGIN[A-Z ]*PRIVATE[ ]KEY-----.*""",
    re.VERBOSE | re.DOTALL,
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}")
_ASSIGNED = re.compile(
    r"(?i)\b((?:\w+[-_])?(?:password|passwd|secret|token|api[-_]?key|authorization))(['\"]?\s*[:=]\s*)(?![*])['\"]?[^\s,;&'\"]+['\"]?"
)
_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
_REFUSED_VALUE = re.compile(r"input_value=.*?(?=, input_type=)", re.DOTALL)  # what Pydantic adds to its messages

_ITEMS = 20
_DEPTH = 6


def mask(text: str) -> str:
    """Return `text` with everything that looks like a key, a token or a password replaced.

    >>> mask("Authorization: Bearer abcdef0123456789, key sk-live-0123456789")
    'Authorization: Bearer ****, key ****'
    """
    text = _SECRET_TEXT.sub(MASK, text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    text = _ASSIGNED.sub(_mask_assigned, text)
    return _IN_URL.sub(rf"\1:{MASK}@", text)


def _mask_assigned(found: re.Match[str]) -> str:
    if found[0].lower().endswith(("bearer", "basic")):  # masked already, behind that word
        return found[0]
    return f"{found[1]}{found[2]}{MASK}"


def is_secret_name(name: object) -> bool:
    """Say whether a field of this name holds a secret.

    >>> [is_secret_name(name) for name in ("api_key", "OPENAI_API_KEY", "auth_token", "monkey", "total_tokens")]
    [True, True, True, False, False]
    """
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def shortened(value: Any, limit: int = 200) -> str:
    """Return a value in one line of at most `limit` characters, secrets masked; never raises.

    >>> shortened({"user": "ada", "password": "hunter2"})
    "{'user': 'ada', 'password': ****}"
    """
    # Long enough that a key at the edge is still recognised before the line is cut.
    text = mask("".join(_pieces(value, 0, limit * 3)))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _pieces(value: Any, depth: int, room: int) -> Iterator[str]:
    if type(value).__name__ in _SECRET_TYPES:
        yield MASK
    elif isinstance(value, (str, bytes)):
        yield repr(mask(value[:room]) if isinstance(value, str) else value[:room])
    elif depth >= _DEPTH:
        yield "…"
    elif isinstance(value, Mapping):
        yield from _joined("{", ((f"{_repr(key)}: ", key, item) for key, item in value.items()), "}", depth, room)
    elif isinstance(value, (list, tuple, set, frozenset)):
        opening, closing = (
            ("[", "]") if isinstance(value, list) else ("(", ")") if isinstance(value, tuple) else ("{", "}")
        )
        yield from _joined(opening, (("", None, item) for item in value), closing, depth, room)
    elif (fields := _fields(value)) is not None:
        items = ((f"{name}=", name, item) for name, item in fields.items())
        yield from _joined(f"{type(value).__name__}(", items, ")", depth, room)
    else:
        yield _repr(value)[:room]


def _joined(opening: str, items: Iterable[tuple[str, Any, Any]], closing: str, depth: int, room: int) -> Iterator[str]:
    yield opening
    for index, (label, name, item) in enumerate(items):
        if index:
            yield ", "
        if index == _ITEMS or room <= 0:
            yield "…"
            break
        text = MASK if is_secret_name(name) else "".join(_pieces(item, depth + 1, room))
        room -= len(label) + len(text)
        yield label + text
    yield closing


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of a dataclass, attrs or Pydantic instance; None for other objects."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif "__attrs_attrs__" in kind.__dict__:
        names = [field.name for field in kind.__dict__["__attrs_attrs__"]]
    elif "__pydantic_fields__" in kind.__dict__:
        return dict(vars(value))
    else:
        return None
    return {name: getattr(value, name, None) for name in names}  # an object of the user's, perhaps half made


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  a broken repr is the user's; printing it must not disturb the run
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"


# -- content in messages -----------------------------------------------------------------------------------------------

_TELLING = 8  # shorter texts are words like "yes": found everywhere, telling nothing
_TELLING_SECRET = 4
_PART = 16  # characters in a row that no two texts share by chance
_MOST = 200
_LONGEST_MESSAGE = 4_000
_CONTENT_SEARCHED = 200_000  # characters; takes some 30 ms, once for each failure


def texts_in(*values: Any, secrets_only: bool = False) -> list[str]:
    """Return the texts inside values that a message must not repeat: the longer ones, and all that are secret.

    Looks at a bounded part of large values.

    >>> texts_in({"question": "What is the answer?", "password": "1234"}, secrets_only=True)
    ['1234']
    """
    found: list[str] = []
    waiting, seen = [(value, False) for value in reversed(values)], 0
    while waiting and seen < 10 * _MOST and len(found) < _MOST:
        value, secret = waiting.pop()
        seen += 1
        if type(value).__name__ in _SECRET_TYPES:
            value, secret = _revealed(value), True
        if isinstance(value, bytes):
            value = value[:_CONTENT_SEARCHED].decode("utf-8", "replace")
        if isinstance(value, str):
            if len(value) >= (_TELLING_SECRET if secret else _TELLING) and (secret or not secrets_only):
                found.append(value)
        else:
            waiting += [(inner, secret or is_secret_name(name)) for name, inner in islice(_inside(value), _MOST)]
    return found


def _revealed(value: Any) -> Any:
    try:
        return value.get_secret_value()
    except AttributeError:  # a type of that name that is not Pydantic's
        return None


def _inside(value: Any) -> Iterator[tuple[object, Any]]:
    """Yield what is inside a value, with its name where it has one."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((None, item) for item in value)
    elif (fields := _fields(value)) is not None:
        yield from fields.items()


def withhold(message: str, contents: Iterable[str]) -> str:
    """Return an error message without what it repeats of `contents`, whole or in part, and with secrets masked.

    >>> withhold("cannot parse 'the prompt of a customer'", ["the prompt of a customer"])
    "cannot parse '[withheld]'"
    """
    message = _REFUSED_VALUE.sub(f"input_value={WITHHELD}", message[:_LONGEST_MESSAGE])
    repeated = bytearray(len(message))
    index: dict[str, list[int]] = {}
    for start in range(len(message) - _PART + 1):
        index.setdefault(message[start : start + _PART], []).append(start)
    room = _CONTENT_SEARCHED
    for content in sorted(contents, key=len):
        if room <= 0:
            break
        for form in {content[:room], repr(content[:room])[1:-1]}:
            room -= len(form)
            _mark(repeated, message, form, index)
    return mask(_without(message, repeated))


def _mark(repeated: bytearray, message: str, content: str, index: dict[str, list[int]]) -> None:
    """Mark what `message` shares with `content`: all of a short text, every longer part of a long one."""
    if 0 < len(content) < _PART:
        start = message.find(content)
        while start >= 0:
            repeated[start : start + len(content)] = b"\1" * len(content)
            start = message.find(content, start + 1)
    for offset in range(len(content) - _PART + 1):
        for start in index.pop(content[offset : offset + _PART], ()):
            repeated[start : start + _PART] = b"\1" * _PART


def _without(message: str, repeated: bytearray) -> str:
    parts = []
    for is_repeated, run in groupby(range(len(message)), key=repeated.__getitem__):
        positions = list(run)
        parts.append(WITHHELD if is_repeated else message[positions[0] : positions[-1] + 1])
    return "".join(parts)
