"""An OpenAI-compatible endpoint: vLLM's or SGLang's server, llama.cpp's, a provider's.

The key comes from the environment, OPENAI_API_KEY, and is written nowhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gigavideo_data.errors import RowError, RunError

try:
    import httpx2
    import openai
    from openai.types.chat import ChatCompletion
except ModuleNotFoundError as error:
    raise RunError("backend http needs the package openai: pip install 'gigavideo[http]'") from error

TIMEOUT_S = 300.0  # for an answer
CONNECT_S = 5.0  # for a connection
RETRIES = 4  # by the client, with growing waits, of what may pass: 408, 409, 429, 5xx, lost connections


def client_of(endpoint: str) -> openai.OpenAI:
    """A client of a base URL such as http://localhost:8000/v1; nothing is sent yet."""
    key = os.environ.get("OPENAI_API_KEY") or "none"  # servers of one's own ask for none, the client does
    timeout = httpx2.Timeout(TIMEOUT_S, connect=CONNECT_S)
    return openai.OpenAI(base_url=endpoint, api_key=key, timeout=timeout, max_retries=RETRIES)


def chat(client: openai.OpenAI, model: str, messages: list[Any], **options: Any) -> ChatCompletion:
    """Request one chat completion; it has a choice with a message whose content is a text or null.

    Raises:
        RowError: the endpoint refused this request (refused), or its answer has no choice (no_answer) or is not of the
            protocol's form (bad_answer).
        TimeoutError: see `told_apart`.
        RunError: what answers does not speak the protocol, or see `told_apart`.
    """
    with told_apart(model):
        response: Any = client.chat.completions.create(model=model, messages=messages, **options)
    if not isinstance(response, ChatCompletion):
        raise RunError(
            f"the endpoint answers with {_short(response)}, which is not a chat completion. Set the recipe's "
            "`endpoint` to the base URL of an OpenAI-compatible server, such as http://localhost:8000/v1"
        )
    if not response.choices:
        raise RowError("no_answer", "the endpoint answered without a choice")
    message: Any = response.choices[0].message
    if message is None or not isinstance(message.content, str | None):
        raise RowError("bad_answer", f"the endpoint answered with the message {_short(message)}")
    return response


@contextmanager
def told_apart(model: str) -> Iterator[None]:
    """What goes wrong at an endpoint, told apart: the row's fault, bad luck, or nothing that another row would change.

    Raises:
        RowError: the endpoint refused this request.
        TimeoutError: it did not answer in time, or was too busy, also after the client's retries.
        RunError: it cannot be reached, does not know the model, or refuses the key.
    """
    try:
        yield
    except openai.APIConnectionError as error:
        if isinstance(error, openai.APITimeoutError) and not isinstance(error.__cause__, httpx2.ConnectTimeout):
            raise TimeoutError(f"no answer within {TIMEOUT_S:g} s") from error
        raise RunError(
            "the endpoint cannot be reached. Is the server up, and the recipe's `endpoint` its base URL, such as "
            "http://localhost:8000/v1? Then run the same command again: finished rows are kept."
        ) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise RunError(f"the endpoint refuses the key ({error.status_code}); set OPENAI_API_KEY") from error
    except openai.NotFoundError as error:
        raise RunError(f"the endpoint knows no model {model!r} or no such path ({_said(error)})") from error
    except (openai.RateLimitError, openai.InternalServerError) as error:
        raise TimeoutError(f"the endpoint was too busy or failed ({error.status_code})") from error
    except openai.APIStatusError as error:
        raise RowError("refused", f"{error.status_code}: {_said(error)}") from error
    except (json.JSONDecodeError, openai.APIResponseValidationError) as error:
        raise RowError("bad_answer", f"the endpoint's answer is not JSON of the protocol's form: {error}") from error


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:80]


def _said(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return " ".join(str(body.get("message") or error.status_code).split())[:200]
