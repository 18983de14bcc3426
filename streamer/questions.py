"""Questions to brokers, asked beside the loop: an answer may take seconds, or not come, while the loop turns.

One question at a time, in a thread of its own. Libraries and connections that serve only questions then need not
be shared, and a broker that is silent keeps other questions waiting, but nothing else.
"""

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

from streamer.delivery import NotNowError

Question = Callable[[], Any]  # raises what its caller is to see
Answer = Callable[[float], Any]  # waits so many seconds; raises NotYetError, or what the question raised

_ONE_AT_A_TIME = Lock()


class NotYetError(NotNowError):
    """The answer is on its way."""


def ask_beside(question: Question) -> Answer:
    """Begin to ask; what is returned gives the answer, or says that there is none yet."""
    over = Event()
    answers: list[Any] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            with _ONE_AT_A_TIME:
                answers.append(question())
        except BaseException as failure:
            failures.append(failure)
        over.set()

    Thread(target=ask, name="question", daemon=True).start()

    def answer(timeout_seconds: float) -> Any:
        if not over.wait(timeout_seconds):
            raise NotYetError("the answer is on its way")
        if failures:
            raise failures[0]
        return answers[0]

    return answer


def ask_at_once(question: Question) -> Answer:
    """Ask here and now: the answer is there, or its failure, before anybody waits for it."""
    found = question()
    return lambda timeout_seconds: found
