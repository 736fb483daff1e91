"""Key files: what is written, who may read it, and what is no key."""

from pathlib import Path

import pytest
import zmq.auth

from services.common.curve import generate, load_pair, public_key
from services.common.errors import HopwireError


def test_a_new_pair_is_read_by_us_and_by_zmq_auth(tmp_path: Path) -> None:
    pair = generate(tmp_path / "own.key")
    assert load_pair(tmp_path / "own.key") == pair
    assert zmq.auth.load_certificate(tmp_path / "own.key") == (pair.public, pair.secret)
    assert zmq.auth.load_certificate(tmp_path / "own.key.pub") == (pair.public, None)
    assert (tmp_path / "own.key").stat().st_mode & 0o777 == 0o600
    assert public_key(str(tmp_path / "own.key.pub")) == public_key(pair.public.decode()) == pair.public
    assert generate(tmp_path / "other.key") != pair


@pytest.mark.parametrize("name", ["own.key", "own.key.pub"])
def test_no_file_is_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(HopwireError, match=rf"cannot write .*{name}: File exists; name another file"):
        generate(tmp_path / "own.key")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_secret_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    generate(tmp_path / "own.key")
    (tmp_path / "own.key").chmod(0o640)
    with pytest.raises(HopwireError, match="this secret key is open to others; run: chmod 600"):
        load_pair(tmp_path / "own.key")


def test_what_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(HopwireError, match=r"key file .*none: No such file or directory; make one with"):
        load_pair(tmp_path / "none")
    (tmp_path / "text").write_text('public-key = "short"\n')
    with pytest.raises(HopwireError, match="no pair of keys"):
        load_pair(tmp_path / "text")
    with pytest.raises(HopwireError, match="no public key; give its 40 characters"):
        public_key(str(tmp_path / "text"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(HopwireError, match=r"key file .*binary: not text"):
        public_key(str(tmp_path / "binary"))
