"""Language models behind one small interface: any OpenAI-compatible server, and a scripted one for tests."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import openai
from openai import AzureOpenAI, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from shared.errors import AnswerRejected, LanguageModelUnavailable, StageError, StaleAttempt
from workers.hanging_up import ShouldStop, Watch, watched
from workers.prompt import Prompt
from workers.reply import response_format

TEXT_LIMIT = 20_000  # characters; a model that never stops must not fill the memory
MODEL_NAME_LIMIT = 200
TOKENS_LIMIT = 2**31 - 1  # what the database's integer holds
LONGEST_RETRY_AFTER_S = 3_600

TRANSIENT_STATUS = frozenset({408, 409, 425, 429})  # and 5xx: the same request may succeed later
# The key, or the model's name: nothing is wrong with the question.
OF_OURS_STATUS = frozenset({401, 403, 404})

FILTERED = "content_filter"  # as the end of an answer, and as the code of Azure's refusal of a prompt

OnDelta = Callable[[str], None]


@dataclass(frozen=True)
class Completion:
    """What a model wrote. Tokens are 0 when the server does not count them."""

    text: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0


class LanguageModel(Protocol):
    """Completes a prompt, one call at a time and from any thread.

    Raises: LanguageModelUnavailable (try again later), AnswerRejected (it would fail again) or
    StaleAttempt (`should_stop` said so; it is asked a few times a second, from another thread)
    """

    def complete(
        self, prompt: Prompt, *, on_delta: OnDelta | None = None, should_stop: ShouldStop | None = None
    ) -> Completion: ...


class OpenAICompatible:
    """A server that speaks OpenAI's chat completions: OpenAI, Azure (with `azure_version`), vLLM, llama.cpp, ….

    Nothing is tried again here: the life of the job does that. `extra` goes into the request body as it
    is (temperature, max_tokens, top_k), since servers differ in what they accept.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        model: str,
        *,
        connect_timeout_s: float = 5,
        total_timeout_s: float = 120,
        first_token_s: float | None = None,
        azure_version: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.total_timeout_s = total_timeout_s
        self.extra = dict(extra or {})
        # Between two bytes no server may be silent for longer than until its first token.
        silence_s = min(first_token_s or total_timeout_s, total_timeout_s)
        timeout = openai.Timeout(total_timeout_s, connect=connect_timeout_s, read=silence_s)
        key = api_key or "none"  # servers of one's own often want no key, the package insists on one
        self._client: OpenAI = (
            AzureOpenAI(
                azure_endpoint=base_url,
                api_key=key,
                api_version=azure_version,
                timeout=timeout,
                max_retries=0,
            )
            if azure_version
            else OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=0)
        )

    def complete(
        self, prompt: Prompt, *, on_delta: OnDelta | None = None, should_stop: ShouldStop | None = None
    ) -> Completion:
        deadline = time.monotonic() + self.total_timeout_s
        with _mapped_errors():
            stream = self._open(prompt)
        answer = _Answer(self.model)
        with stream, watched(stream, deadline, should_stop) as watch:
            chunks = iter(stream)
            while (delta := _next_delta(chunks, answer, watch)) is not None:
                if delta and on_delta is not None:
                    on_delta(delta)
        return answer.completion()

    def close(self) -> None:
        self._client.close()

    def _open(self, prompt: Prompt) -> Stream[ChatCompletionChunk]:
        return self._client.chat.completions.create(
            model=self.model,
            messages=cast(list[ChatCompletionMessageParam], list(prompt.messages)),
            stream=True,
            stream_options={"include_usage": True},
            response_format=cast(Any, response_format()),
            extra_body=self.extra or None,
        )


class _Answer:
    """Gathers the pieces of one stream."""

    def __init__(self, model: str) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.model = model
        self.finish_reason: str | None = None
        self.input_tokens = self.output_tokens = 0

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take in a chunk and return its text, which may be empty.

        Raises: AnswerRejected if the text grows past TEXT_LIMIT
        """
        if chunk.usage is not None:
            self.input_tokens = _count(chunk.usage.prompt_tokens)
            self.output_tokens = _count(chunk.usage.completion_tokens)
        self.model = _clean(chunk.model or self.model)[:MODEL_NAME_LIMIT]
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        text = (choice.delta.content if choice.delta else None) or ""
        self.parts.append(text)
        self.size += len(text)
        if self.size > TEXT_LIMIT:
            raise AnswerRejected(f"The language model wrote more than {TEXT_LIMIT} characters.")
        return _clean(text)

    def completion(self) -> Completion:
        """Raises: LanguageModelUnavailable for a stream that broke off, AnswerRejected for a withheld end"""
        if self.finish_reason is None:
            raise LanguageModelUnavailable("The language model's answer broke off.")
        if self.finish_reason == "length":
            raise AnswerRejected("The language model's answer was longer than its limit and is not complete.")
        if self.finish_reason == FILTERED:
            raise AnswerRejected("The language model's provider withheld the answer.")
        return Completion(_clean("".join(self.parts)), self.model, self.input_tokens, self.output_tokens)


def _count(tokens: int | None) -> int:
    return min(max(int(tokens or 0), 0), TOKENS_LIMIT)


def _clean(text: str) -> str:
    """Text that can be stored and sent: without NUL, halves of a character joined or replaced.

    Servers that send token by token cut an emoji in two; each half alone is a lone surrogate.
    """
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "")


def _next_delta(chunks: Iterator[ChatCompletionChunk], answer: _Answer, watch: Watch) -> str | None:
    """The next piece of text, or None at the end; a call that the watch ended fails for the watch's reason."""
    try:
        with _mapped_errors():
            chunk = next(chunks, None)
            delta = None if chunk is None else answer.add(chunk)
    except LanguageModelUnavailable:
        watch.check()
        raise
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # a chunk that is not a chunk
        raise LanguageModelUnavailable("The language model's server sent what is no answer.") from error
    watch.check()
    return delta


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except openai.OpenAIError as error:
        raise translate(error) from error


def translate(error: openai.OpenAIError) -> StageError:
    """Our error for the package's. What the server said stays in the log: it may quote keys or prompts."""
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if status in TRANSIENT_STATUS or status >= 500:
            return LanguageModelUnavailable(
                f"The language model's server answered {status}.", retry_after_s=_retry_after_s(error)
            )
        if error.code == FILTERED:
            return AnswerRejected("The language model's provider filtered the question out.")
        refused = AnswerRejected(f"The language model's server refused the request with {status}.")
        refused.elsewhere = status in OF_OURS_STATUS
        return refused
    if isinstance(error, openai.APITimeoutError):
        return LanguageModelUnavailable("The language model did not answer in time.")
    if isinstance(error, openai.APIConnectionError):
        return LanguageModelUnavailable("The language model's server could not be reached, or hung up.")
    if isinstance(error, openai.LengthFinishReasonError | openai.ContentFilterFinishReasonError):
        return AnswerRejected("The language model's answer is not complete.")
    return LanguageModelUnavailable("The language model's server reported an error.")


def _retry_after_s(error: openai.APIStatusError) -> int | None:
    """In seconds, of Azure's milliseconds or of Retry-After; the latter's other form, a date, is left to our backoff."""
    for header, of_a_second in (("retry-after-ms", 1_000), ("retry-after", 1)):
        value = error.response.headers.get(header, "").strip()  # of thousands of digits int() would fail
        if value.isascii() and value.isdigit():
            return min(math.ceil(int(value[:12]) / of_a_second), LONGEST_RETRY_AFTER_S)
    return None


class ScriptedModel:
    """A language model that says what a test wrote, and raises the errors that the test lists.

    Only tests construct it: no setting selects it.
    """

    def __init__(self, replies: Sequence[str | Exception], model: str = "scripted") -> None:
        self.replies = list(replies)
        self.model = model
        self.prompts: list[Prompt] = []

    def complete(
        self, prompt: Prompt, *, on_delta: OnDelta | None = None, should_stop: ShouldStop | None = None
    ) -> Completion:
        self.prompts.append(prompt)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        words = reply.split(" ")
        for i, word in enumerate(words):
            if should_stop is not None and should_stop():
                raise StaleAttempt("The call to the language model was stopped.")
            if on_delta is not None:
                on_delta(word if i == len(words) - 1 else f"{word} ")
        return Completion(reply, self.model, len(str(prompt.messages).split()), len(words))
