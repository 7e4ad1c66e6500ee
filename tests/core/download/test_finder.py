from truckee.core.download.finder import Answered, Finder, HandOver, Hungry, Late, NoMore, Query


def queries(actions):
    return [action.place for action in actions if isinstance(action, Query)]


def test_nothing_is_asked_before_somebody_is_hungry():
    finder = Finder(5)
    assert not finder.finished
    assert queries(finder.handle(Hungry())) == [0, 1, 2, 3, 4]


def test_at_most_ten_queries_are_unanswered():
    finder = Finder(30)
    assert queries(finder.handle(Hungry())) == list(range(10))
    assert queries(finder.handle(Hungry())) == []
    assert queries(finder.handle(Answered(3, 0))) == [10]


def test_shares_that_turn_up_end_the_hunger_until_the_next_time():
    finder = Finder(30)
    finder.handle(Hungry())
    assert finder.handle(Answered(0, 2)) == [HandOver(0)]
    assert finder.handle(Answered(1, 0)) == []
    assert queries(finder.handle(Hungry())) == [10, 11]


def test_a_late_query_no_longer_counts_but_is_still_awaited():
    finder = Finder(11)
    finder.handle(Hungry())
    assert queries(finder.handle(Late(0))) == [10]
    for place in range(1, 10):
        assert finder.handle(Answered(place, 0)) == []
    assert finder.handle(Answered(10, 0)) == []
    assert not finder.finished
    assert finder.handle(Answered(0, 1)) == [HandOver(0), NoMore()]


def test_a_query_that_was_answered_cannot_become_late():
    finder = Finder(2)
    finder.handle(Hungry())
    finder.handle(Answered(0, 0))
    assert finder.handle(Late(0)) == []
    assert finder.handle(Answered(1, 0)) == [NoMore()]


def test_no_more_is_said_when_the_last_answer_is_empty_or_the_hunger_is_over():
    finder = Finder(2)
    finder.handle(Hungry())
    assert finder.handle(Answered(0, 1)) == [HandOver(0)]
    assert finder.handle(Answered(1, 0)) == [NoMore()]
    assert finder.handle(Hungry()) == [NoMore()]


def test_without_servers_there_is_no_more_at_once():
    assert Finder(0).handle(Hungry()) == [NoMore()]
