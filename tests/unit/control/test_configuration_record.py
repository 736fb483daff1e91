"""What is kept for the next control, and with which configuration that begins."""

from pathlib import Path
from typing import Any

import pytest

from services.common.errors import HopwireError
from services.control.configuration.manager import Configuration
from services.control.configuration.origin import Origin
from services.control.configuration.record import Record, RecordStore, Unconfirmed, Version, record_file
from services.control.configuration.state import LinkState, Owned, normal_route
from services.control.rpc_params import RouteSpec

FILE = "log_level: warning\n"
APPLIED = Version(text="log_level: error\n", source="other.yaml", at=1.0)


class Log:
    def __getattr__(self, _name: str) -> Any:
        return lambda *_words, **_fields: None


def begun(folder: Path, file: str | None, record: Record | None = None) -> Configuration:
    store = RecordStore(record_file(folder))
    if record is not None:
        store.write(record)
    path = None
    if file is not None:
        path = folder / "own.yaml"
        path.write_text(file, encoding="utf-8")
    return Configuration(Origin(path), store, Log())


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    displaced = normal_route(
        RouteSpec.model_validate({"dst": "10.0.0.0/8", "nexthops": [{"dev": "a"}, {"dev": "b"}]}), 200
    )
    record = Record(
        current=APPLIED,
        history=(Version(text="x", source="y", at=0.5),),
        owned=Owned.model_validate({"addresses": {"eth0": ["10.0.0.1/24"]}, "links": {"eth0": LinkState(mtu=1500)}}),
        unconfirmed=Unconfirmed(deadline=7.0, boot="b", until=8.0, displaced=(displaced,)),
    )
    store = RecordStore(record_file(tmp_path))
    store.write(record)
    assert store.read() == record
    assert record_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert store.warning == ""


def test_a_file_that_makes_no_sense_is_said(tmp_path: Path) -> None:
    record_file(tmp_path).write_text("{", encoding="utf-8")
    store = RecordStore(record_file(tmp_path))
    assert store.read() == Record()
    assert store.warning.endswith("is not used: it makes no sense; remove the file")


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(HopwireError, match=r"cannot keep the configuration in .*: No such file or directory"):
        RecordStore(record_file(tmp_path / "gone")).write(Record())


@pytest.mark.parametrize(
    ("file", "record", "level"),
    [
        pytest.param(None, None, "info", id="nothing at all"),
        pytest.param(FILE, None, "warning", id="first start"),
        pytest.param(FILE, Record(current=APPLIED, file=FILE), "error", id="crash"),
        pytest.param(FILE, Record(current=APPLIED, file="log_level: info"), "warning", id="crash, then a new file"),
        pytest.param(FILE, Record(current=APPLIED, file=FILE, ended=True), "warning", id="end"),
        pytest.param(None, Record(current=APPLIED), "error", id="crash without a file"),
        pytest.param(None, Record(current=APPLIED, ended=True), "info", id="end without a file"),
        pytest.param(
            FILE,
            Record(current=APPLIED, ended=True, unconfirmed=Unconfirmed(deadline=1, boot="b", until=1)),
            "error",
            id="end while it waits",
        ),
        pytest.param(
            FILE,
            Record(current=APPLIED.model_copy(update={"text": "x: 1"}), file=FILE),
            "warning",
            id="no longer allowed",
        ),
    ],
)
def test_what_a_start_begins_with(tmp_path: Path, file: str | None, record: Record | None, level: str) -> None:
    assert begun(tmp_path, file, record).config.log_level == level


@pytest.mark.parametrize(
    ("record", "stays"),
    [
        (Record(), False),
        (Record(current=Version(text=FILE, at=1.0), file=FILE), False),
        (Record(current=APPLIED, file=FILE), True),
        (Record(history=(APPLIED,)), True),
        (Record(owned=Owned.model_validate({"links": {"eth0": LinkState(mtu=1500)}})), True),
    ],
)
def test_nothing_is_left_where_the_next_start_needs_no_word(tmp_path: Path, record: Record, stays: bool) -> None:
    configuration = begun(tmp_path, None, record)
    configuration.record = record
    configuration.end()
    assert record_file(tmp_path).exists() is stays


def test_a_wrong_file_ends_the_start_but_not_after_a_crash(tmp_path: Path) -> None:
    with pytest.raises(HopwireError, match="unknown key 'rutes'"):
        begun(tmp_path, "rutes: []")
    gone = (
        Configuration(Origin(tmp_path / "gone.yaml"), RecordStore(record_file(tmp_path)), Log())
        if begun(tmp_path, None, Record(current=APPLIED))
        else None
    )
    assert gone is not None
    assert gone.config.log_level == "error"
