"""What `hopwire bench --nat` runs on a table of sessions, on a small one."""

from services.forwarder.nat.measure import measure


def test_all_sessions_are_opened_and_ended() -> None:
    measured = measure(3000)
    assert measured["sessions"] == 3000
    assert measured["run_directory_mb"] >= measured["capacity"] * 128 / 1e6
    assert measured["memory_mb"] > 0
    assert measured["pauses"] >= 3000 / 256, "no pause ends more"
    assert 0 < measured["median_pause_ms"] <= measured["longest_pause_ms"]
