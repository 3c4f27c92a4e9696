"""The API keys of endpoints, read from the environment: one each for writer and judge, or one for both.

They are sent to the endpoint and written nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

Part = Literal["writer", "judge"]  # the parts of a recipe that may have an endpoint
VARIABLES: dict[Part, str] = {"writer": "GIGAVIDEO_WRITER_API_KEY", "judge": "GIGAVIDEO_JUDGE_API_KEY"}
SHARED = "OPENAI_API_KEY"  # used where a part has no key of its own


def api_key(part: Part) -> str | None:
    """The key for a part's endpoint; None if neither variable is set."""
    return os.environ.get(VARIABLES[part]) or os.environ.get(SHARED)


def shared_key_warning(endpoints: Mapping[Part, str | None]) -> str | None:
    """A warning where one key is sent to several hosts; None where it is not.

    Args:
        endpoints: base URLs by part; None where a part has no endpoint.
    """
    if not os.environ.get(SHARED):
        return None
    hosts = {
        part: urlsplit(url).netloc for part, url in endpoints.items() if url and not os.environ.get(VARIABLES[part])
    }
    if len(set(hosts.values())) < 2:
        return None
    sent = " and ".join(f"the {part}'s endpoint {host}" for part, host in hosts.items())
    own = " and ".join(VARIABLES[part] for part in hosts)
    return f"{SHARED} is sent to {sent}; to give each its own key, set {own}"
