"""Questions asked beside the loop: whoever asks waits no longer than it wants to."""

from threading import Event, current_thread

import pytest

from streamer.delivery import NotNowError
from streamer.questions import NotYetError, ask_at_once, ask_beside


@pytest.mark.parametrize("ask", [ask_at_once, ask_beside])
def test_an_answer_is_what_the_question_found(ask):
    assert ask(lambda: 7)(60.0) == 7


def test_an_answer_that_is_not_there_is_not_waited_for():
    answered = Event()
    answer = ask_beside(lambda: (answered.wait(60), current_thread().name))
    for _ in range(2):
        with pytest.raises(NotYetError):
            answer(0.0)
    answered.set()
    assert answer(60.0) == (True, "question")


def test_a_question_that_fails_fails_whoever_waits_for_its_answer():
    def silent():
        raise NotNowError("a leader is away")

    with pytest.raises(NotNowError, match="a leader is away"):
        ask_beside(silent)(60.0)


def test_questions_are_asked_one_at_a_time():
    answered = Event()
    first, second = ask_beside(lambda: answered.wait(60)), ask_beside(lambda: "second")
    with pytest.raises(NotYetError):
        second(0.05)
    answered.set()
    assert (first(60.0), second(60.0)) == (True, "second")
