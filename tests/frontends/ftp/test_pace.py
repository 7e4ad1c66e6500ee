"""How slow is too slow."""

from truckee.frontends.ftp.pace import Pace


def run(pace: Pace, ticks: int, rate: int, waiting: bool, step: float = 5.0) -> str | None:
    for _ in range(ticks):
        moved = pace._moved + int(rate * step)
        verdict = pace.tick(pace.now + step, moved, waiting)
        if verdict:
            return verdict
    return None


def test_silence_is_borne_for_the_idle_time_and_no_longer() -> None:
    pace = Pace(60, 0)
    assert run(pace, 11, 0, True) is None
    assert run(pace, 1, 0, True)


def test_time_in_which_the_grid_is_slow_does_not_count() -> None:
    pace = Pace(60, 0)
    assert run(pace, 1000, 0, False) is None
    assert run(pace, 11, 0, True) is None


def test_a_byte_now_and_then_is_not_enough() -> None:
    pace = Pace(60, 0)
    verdict = None
    for _ in range(70):
        verdict = verdict or pace.tick(pace.now + 5, pace._moved + 1, True)
    assert verdict


def test_a_slow_but_steady_client_is_kept() -> None:
    assert run(Pace(60, 0), 10_000, 300, True) is None


def test_a_client_that_was_fast_and_then_drips_is_dropped_within_two_windows() -> None:
    pace = Pace(60, 0)
    assert run(pace, 20, 10**6, True) is None
    assert run(pace, 120, 1, True)


def test_memory_is_bounded_while_nothing_counts() -> None:
    pace = Pace(60, 0)
    run(pace, 20_000, 0, False)
    assert len(pace._samples) <= 4097
