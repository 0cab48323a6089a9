"""What the clients of a provider's own SDK share: the key, the address, the time-out, errors."""

import asyncio

from distill_jax.teachers.http_errors import no_answer, unknown_error
from distill_jax.teachers.messages import Client, Reply, Request, TeacherError
from distill_jax.teachers.secrets import api_key, checked_url


class SdkClient(Client):
    """A chat, one sample per request, no log-probabilities; the SDK's client is `_sdk`.

    A subclass says how to connect (`_connect` returns the address), how to ask (`_ask`), and what its SDK's
    errors mean (`_known_error`; None for one that it does not describe). `base_url` is None for the provider's
    own, `key_variable` for `KEY_VARIABLE`; `timeout` is in seconds per request.

    Raises:
      UserError: without a key, and for a `base_url` that is no address.
    """

    KEY_VARIABLE: str

    def __init__(
        self, model: str, base_url: str | None = None, key_variable: str | None = None, timeout: float = 60.0
    ):
        key = api_key(key_variable or self.KEY_VARIABLE, needed=True)
        self._model, self._timeout = model, timeout
        self.endpoint = self._connect(key, checked_url(base_url) if base_url else None)

    async def complete(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask(request)
        except TeacherError:
            raise
        except TimeoutError:
            raise no_answer(self._timeout) from None
        except Exception as error:  # an SDK lets its transport's errors through, and answers of any shape
            raise (self._known_error(error) or unknown_error(error)) from None
