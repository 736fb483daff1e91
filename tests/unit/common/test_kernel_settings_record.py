"""The record of the kernel's settings: what is kept, what is refused. On a folder in place of /proc/sys."""

import json
from pathlib import Path

import pytest

from services.common import guard, kernel_settings
from services.common.errors import HopwireError
from services.common.kernel_settings import (
    KernelOwnership,
    namespace_identity,
    record_path,
    shortcomings,
    sysctl_name,
)

ORIGINALS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/icmp_echo_ignore_all": "0",
    "net/ipv4/conf/all/accept_redirects": "1",
    "net/ipv4/nexthop_compat_mode": "0",
    "net/ipv4/conf/default/forwarding": "1",
    "net/ipv4/conf/eth0/forwarding": "1",
    "net/ipv4/conf/eth0/arp_ignore": "0",
    "net/ipv4/conf/eth0/accept_redirects": "1",
}
BOOT_ID = "kernel/random/boot_id"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with these values; the guard is left out."""
    folder = tmp_path / "sys"
    for name, value in (ORIGINALS | {BOOT_ID: "b00t"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(kernel_settings, "_SYSCTL", folder)
    monkeypatch.setattr(kernel_settings, "_BOOT_ID", folder / BOOT_ID)
    monkeypatch.setattr(guard, "install", lambda _names, _translated: None)
    monkeypatch.setattr(guard, "remove", lambda: None)
    return folder


def values(settings: Path) -> dict[str, str]:
    return {name: (settings / name).read_text().strip() for name in ORIGINALS}


def test_the_record_is_written_before_the_first_change(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_change(_settings: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel_settings, "_write", no_change)
    with pytest.raises(KeyboardInterrupt):
        KernelOwnership(record_path(tmp_path)).take(["eth0"])
    record = json.loads(record_path(tmp_path).read_text())
    assert record == {"namespace": namespace_identity(), "settings": ORIGINALS}


def test_nothing_changes_when_the_record_cannot_be_written(settings: Path, tmp_path: Path) -> None:
    with pytest.raises(HopwireError, match=r"cannot write .*/missing/kernel-settings.json: No such file or directory;"):
        KernelOwnership(record_path(tmp_path / "missing")).take(["eth0"])
    assert values(settings) == ORIGINALS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"settings": 1}',
        '{"namespace": "x"}',
        '{"settings": {"net/ipv4/ip_forward": 1}}',
        '{"settings": {"net/ipv4/ip_forward": "one"}}',
        '{"settings": {"kernel/core_pattern": "1"}}',
        '{"settings": {"net/ipv4/conf/../../core/somaxconn": "1"}}',
        "\udcff",
    ],
)
def test_a_damaged_record_is_told_and_not_applied(settings: Path, tmp_path: Path, text: str) -> None:
    record_path(tmp_path).write_bytes(text.encode(errors="surrogateescape"))
    (warning,) = KernelOwnership(record_path(tmp_path)).restore()
    assert warning == f"{record_path(tmp_path)} is damaged: what an earlier run changed is not put back"
    assert values(settings) == ORIGINALS
    assert not record_path(tmp_path).exists()


def test_a_record_from_before_a_reboot_is_told_and_not_applied(settings: Path, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    assert ownership.take(["eth0"]) == []
    taken = values(settings)
    (settings / BOOT_ID).write_text("another\n")
    (warning,) = ownership.take(["eth0"])
    assert "is ignored: another network namespace, or one before a reboot, wrote it" in warning
    ownership.restore()
    assert values(settings) == taken, "what stood there when it was taken for the first time since the reboot"


def test_restoring_without_a_record_changes_nothing(settings: Path, tmp_path: Path) -> None:
    assert KernelOwnership(record_path(tmp_path)).restore() == []
    assert values(settings) == ORIGINALS


def test_a_kernel_without_nftables_is_a_warning(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_names: object, _translated: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(guard, "install", unsupported)
    (warning,) = KernelOwnership(record_path(tmp_path)).take(["eth0"])
    assert warning.startswith("no nftables guard at netdev ingress (Operation not supported): all works, but")
    assert values(settings)["net/ipv4/ip_forward"] == "0"


def test_shortcomings_name_setting_value_consequence_and_remedy(settings: Path) -> None:
    for name, value in (("ip_forward", "0"), ("icmp_echo_ignore_all", "1"), ("conf/all/accept_redirects", "0")):
        (settings / "net/ipv4" / name).write_text(value)
    (settings / "net/ipv4/nexthop_compat_mode").write_text("1")
    (settings / "net/ipv4/conf/eth0/forwarding").write_text("0")
    (settings / "net/ipv4/conf/eth0/accept_redirects").write_text("0")
    (line,) = shortcomings(["eth0", "gone"])
    assert line == (
        "net.ipv4.conf.eth0.arp_ignore should be 8: otherwise the kernel answers ARP requests too, each is answered "
        "twice; set it with sysctl -w, or for a container with --sysctl net.ipv4.conf.all.arp_ignore=8"
    )


def test_sysctl_names_swap_dots_and_slashes() -> None:
    assert sysctl_name("net/ipv4/conf/eth0.5/arp_ignore") == "net.ipv4.conf.eth0/5.arp_ignore"


@pytest.mark.parametrize("own", ["", "8080,9000-9010"])
def test_the_kernel_takes_no_translated_port_for_itself(settings: Path, tmp_path: Path, own: str) -> None:
    """The ranges join the administrator's own; when the rules go, or hopwire does, only those are left."""
    reserved = settings / "net/ipv4/ip_local_reserved_ports"
    reserved.write_text(f"{own}\n")
    ports = [guard.TranslatedPorts(1, protocol, 20_000, 59_999) for protocol in (6, 17)]
    ownership = KernelOwnership(record_path(tmp_path))
    ownership.take(["eth0"], ports)
    assert reserved.read_text().strip() == (f"{own},20000-59999" if own else "20000-59999")
    ownership.take(["eth0"], [])
    assert reserved.read_text().strip() == own
    ownership.take(["eth0"], ports)
    KernelOwnership(record_path(tmp_path)).restore()
    assert reserved.read_text().strip() == own
