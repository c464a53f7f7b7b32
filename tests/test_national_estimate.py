"""The estimates of tests/benchmarks/national_estimate.py, by hand."""

import pytest

from tests.benchmarks import national_estimate as estimate


def test_tasks_go_to_whoever_is_free_first():
    assert estimate.spread([3, 1, 1, 1, 2], 1) == 8
    assert estimate.spread([3, 1, 1, 1, 2], 2) == 5  # 3 and 1 1 1, then 2 on either
    assert estimate.spread([3, 1, 1, 1, 2], 100) == 3


def test_a_run_is_what_one_process_does_and_its_stages():
    parts = [
        {"part": "plan", "seconds": 2.0},
        {
            "part": "evaluating",
            "seconds": 11.0,
            "context_bytes": 100,
            "tasks": [{"seconds": s, "result_bytes": 10} for s in (4.0, 4.0, 2.0)],
        },
    ]
    one = estimate.run_on(parts, 1, 0.0, network=10)
    assert one == {"tasks": 10, "alone": 3, "network": 0, "engine": 0, "bound": 7, "total": 13}
    four = estimate.run_on(parts, 4, 0.5, network=10)
    # three rounds of 100 bytes (1, then 2, then 4 have it), and 30 bytes back
    assert four == {"tasks": 4, "alone": 3, "network": 33, "engine": 1.5, "bound": 7, "total": 41.5}
    # of two workers that took 11 s the tasks can have kept one busy for 6
    two = estimate.run_on(parts, 1, 0.0, network=10, measured_with=2)
    assert two["alone"] == 2 + 11 - 6


def test_slides():
    found = estimate.slides_on(0.01, 2, 384, workers=100, task_overhead=0.001)
    assert found["slide_seconds"] == 100
    assert found["days"] == pytest.approx(200_000 / 86_400)  # a slide a second
    assert found["read"] == pytest.approx(1e9)
    assert found["written"] == pytest.approx(10_000 * 384 * 2)
    assert found["store"] == 200_000 * 10_000 * 384 * 2
    assert found["disk_full"] == pytest.approx(200)
    assert found["engine_full"] == pytest.approx(100_000)


def test_pooling():
    processors, disk = estimate.pooling_on(20.0, 10_000_000, 1.536e12, workers=16)
    assert processors == pytest.approx(250)
    assert disk == pytest.approx(768)
