"""The client of an OpenAI-compatible endpoint: the server of vLLM, SGLang or llama.cpp, or a provider.

The key comes from the environment (see `api_keys`) and is written nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gigavideo_data import heartbeat
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models.llm.api_keys import SHARED, VARIABLES, Part, api_key
from gigavideo_data.reasons import Reason

try:
    import httpx2
    import openai
    from openai.types.chat import ChatCompletion
except ModuleNotFoundError as error:
    raise RunError("backend http needs the package openai: pip install 'gigavideo[http]'") from error

TIMEOUT_S = 300.0  # for an answer
CONNECT_S = 5.0  # for a connection
RETRIES = 4  # by the client, with growing waits: 408, 409, 429, 5xx, lost connections


class Endpoint:
    """One model of one endpoint, for one part of a recipe."""

    def __init__(self, url: str, model: str, part: Part) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            url: base URL, such as http://localhost:8000/v1.
            model: its name there.
            part: whose key is sent.
        """
        self.model, self.part = model, part
        self._via_proxy = "" if _is_local(url) else _proxy_of(url)
        self._client = openai.OpenAI(
            base_url=url,
            http_client=openai.DefaultHttpxClient(trust_env=False) if _is_local(url) else None,  # past any proxy
            api_key=api_key(part) or "none",  # the client requires one, servers of one's own do not
            timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_S),
            max_retries=RETRIES,
        )

    def chat(self, messages: list[Any], **options: Any) -> ChatCompletion:
        """Request one chat completion; it has at least one choice, whose message's content is a text or None.

        Raises:
            RowError: the endpoint refused this request (refused), or its answer has no choice (no_answer) or breaks
                the protocol (bad_answer).
            TimeoutError: it did not answer in time or was too busy, also after the client's retries.
            RunError: it cannot be reached, does not know the model, refuses the key, or uses another protocol.
        """
        with self._translate_errors():
            response: Any = self._client.chat.completions.create(model=self.model, messages=messages, **options)
        heartbeat.beat()
        if not isinstance(response, ChatCompletion):
            raise RunError(
                f"the endpoint answers with {_short(response)}, which is not a chat completion. Set the recipe's "
                "`endpoint` to the base URL of an OpenAI-compatible server, such as http://localhost:8000/v1"
            )
        if not response.choices:
            raise RowError(Reason.NO_ANSWER, "the endpoint answered without a choice")
        message: Any = response.choices[0].message
        if message is None or not isinstance(message.content, str | None):
            raise RowError(Reason.BAD_ANSWER, f"the endpoint answered with the message {_short(message)}")
        return response

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate the client's errors: RowError for this row, TimeoutError to try again, RunError to stop."""
        try:
            yield
        except openai.APIConnectionError as error:
            if isinstance(error, openai.APITimeoutError) and not isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise TimeoutError(f"no answer within {TIMEOUT_S:g} s") from error
            raise RunError(
                f"the endpoint cannot be reached{self._via_proxy}. Is the server up, and the recipe's `endpoint` its "
                "base URL, such as http://localhost:8000/v1? Then run the same command again: finished rows are kept."
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            variables = f"{VARIABLES[self.part]} or {SHARED}"
            raise RunError(f"the endpoint refuses the key ({error.status_code}); set {variables}") from error
        except openai.NotFoundError as error:
            raise RunError(
                f"the endpoint knows no model {self.model!r} or no such path ({_message_of(error)})"
            ) from error
        except (openai.RateLimitError, openai.InternalServerError) as error:
            raise TimeoutError(f"the endpoint was too busy or failed ({error.status_code}){self._via_proxy}") from error
        except openai.APIStatusError as error:
            raise RowError(Reason.REFUSED, f"{error.status_code}: {_message_of(error)}") from error
        except (json.JSONDecodeError, openai.APIResponseValidationError) as error:
            raise RowError(
                Reason.BAD_ANSWER, f"the endpoint's answer is no JSON of a chat completion: {error}"
            ) from error


def _is_local(url: str) -> bool:
    """Whether an endpoint is on this machine, by its name or address."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _proxy_of(url: str) -> str:
    """The proxy that the environment names for an endpoint, for a message; without its password."""
    parts = urlsplit(url)
    proxies = getproxies()
    variable = next((name for name in (parts.scheme, "all") if name in proxies), None)
    if variable is None or proxy_bypass(parts.hostname or ""):
        return ""
    return f" through the proxy {urlsplit(proxies[variable]).netloc.rpartition('@')[2]} ({variable}_proxy)"


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:80]


def _message_of(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return " ".join(str(body.get("message") or error.status_code).split())[:200]
