"""A service's log on its way through process 1."""

from services.container.lines import Lines


def test_lines_pass_whole_however_they_come() -> None:
    lines = Lines()
    assert lines.take(b'{"event": "sta') == b""
    assert lines.take(b'rted"}\nhopwire arp: no') == b'{"event": "started"}\n'
    assert lines.take(b" room\n") == b"hopwire arp: no room\n"
    assert lines.last_plain == "hopwire arp: no room"


def test_the_last_plain_line_is_kept_through_log_events() -> None:
    lines = Lines()
    lines.take(b'hopwire arp: no room\n{"event": "x"}\n\n')
    assert lines.last_plain == "hopwire arp: no room"


def test_the_same_complaint_is_written_once() -> None:
    lines = Lines()
    assert lines.take(b"hopwire arp: no room\n") == b"hopwire arp: no room\n"
    assert lines.take(b'{"event": "started"}\nhopwire arp: no room\n') == b'{"event": "started"}\n'
    assert lines.take(b"hopwire arp: another\n") == b"hopwire arp: another\n"
    assert lines.take(b"hopwire arp: no room\n") == b"hopwire arp: no room\n"


def test_the_end_ends_the_last_line() -> None:
    lines = Lines()
    assert lines.take(b"hopwire arp: no newline") == b""
    assert lines.take(b"") == b"hopwire arp: no newline\n"
    assert lines.take(b"") == b""
    assert lines.last_plain == "hopwire arp: no newline"


def test_a_line_without_end_takes_no_memory_without_end() -> None:
    lines = Lines()
    written = sum(len(lines.take(bytes([97 + number]) * 10_000)) for number in range(20))
    assert written >= 130_000
