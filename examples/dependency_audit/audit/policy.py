"""The policy file: what a team has agreed on about licences and single distributions."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name
from pydantic import ValidationError

from audit.models import Family, Policy
from flow import StepFailed


class PolicyUnusable(StepFailed):
    """The policy file is missing, is no TOML or says something that nobody understands."""


def load_policy(path: Path | None) -> Policy:
    """Return the policy in a TOML file, the built-in one without a file; raises `PolicyUnusable`."""
    if path is None:
        return Policy()
    try:
        policy = Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise PolicyUnusable(f"there is no policy file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyUnusable(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PolicyUnusable(f"{path}: {where}: {first['msg']}", hint="It has [licences] and [waivers]") from error
    _refuse_unknown_families(path, policy)
    return policy.model_copy(update={"waivers": {canonicalize_name(n): why for n, why in policy.waivers.items()}})


def _refuse_unknown_families(path: Path, policy: Policy) -> None:
    """A misspelt family would silently match nothing. Families have spaces or are one known word, identifiers not."""
    for word in (*policy.licences.allow, *policy.licences.deny):
        if " " in word and word not in set(Family):
            raise PolicyUnusable(f"{path}: there is no family {word!r}", hint=f"There are {', '.join(Family)}")
