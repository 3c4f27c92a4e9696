"""The keys of endpoints: of the environment alone, one for the writer's and one for the judge's, or one for both.

They are sent to the endpoint and written nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

Part = Literal["writer", "judge"]  # of a recipe, that has an endpoint
VARIABLES: dict[Part, str] = {"writer": "GIGAVIDEO_WRITER_API_KEY", "judge": "GIGAVIDEO_JUDGE_API_KEY"}
SHARED = "OPENAI_API_KEY"  # where a part has none of its own


def api_key(part: Part) -> str | None:
    """The key for a part's endpoint, if there is one."""
    return os.environ.get(VARIABLES[part]) or os.environ.get(SHARED)


def shared_key_warning(endpoints: Mapping[Part, str | None]) -> str | None:
    """What to say where one key goes to several hosts.

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
