"""Counts what each owner's questions cost, and says when a month's tokens are used up."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared import usage
from shared.database import Database
from workers.limits import CHARACTERS_A_TOKEN
from workers.llm import Completion
from workers.prompt import Prompt

log = structlog.get_logger(__name__)


class Meter:
    """`cap` is of tokens a month, 0 for none. Calls under way when it is reached are still made."""

    def __init__(self, db: Database, cap: int) -> None:
        self._db, self._cap = db, cap

    def refusal(self, owner: str) -> str | None:
        """Why no language model is asked for this owner; None when one may be."""
        if self._cap and usage.spent(self._db, owner) >= self._cap:
            return "The tokens that this month may cost are used up."
        return None

    def count(self, owner: str, prompt: Prompt, completion: Completion) -> None:
        """One call. Where the server counts no tokens, they are guessed from the characters.

        An answer that was paid for is not thrown away because it could not be counted.
        """
        written = sum(len(message["content"]) for message in prompt.messages)
        tokens = {
            "input_tokens": completion.input_tokens or written // CHARACTERS_A_TOKEN,
            "output_tokens": completion.output_tokens or len(completion.text) // CHARACTERS_A_TOKEN,
        }
        try:
            usage.add(self._db, owner, completion.model, **tokens)
        except SQLAlchemyError:
            log.exception("usage_not_counted", owner=owner, model=completion.model, **tokens)
