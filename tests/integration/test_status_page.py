"""The status page in a real browser: what it shows of a router under traffic, on large and small screens."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from browser import Browser
from router_lab import RouterLab, kernel, started, wait_for
from router_traffic import Pinger

from services.launcher.lab.topologies import PAIR

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(300),
]

PAGE: Final = "http://127.0.0.1:9100/"
LIMIT_S: Final = 60.0
SCREENS: Final = {"desktop": (1180, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def lab() -> Iterator[RouterLab]:
    with started(PAIR, "b") as made:
        yield made


@pytest.fixture(scope="module")
def browser(lab: RouterLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(lab, "router", tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def traffic(lab: RouterLab) -> Iterator[None]:
    """Let pings be answered by host2, and others be dropped for want of a route."""
    with Pinger(lab, "host1", "192.168.0.2") as answered, Pinger(lab, "host2", "10.99.99.99"):
        answered.wait_for_replies(3)
        yield


def open_page(browser: Browser, screen: str, scheme: str) -> None:
    browser.show(*SCREENS[screen], scheme)
    browser.open(PAGE)
    wait_for(
        "the page has asked three times",
        lambda: browser.evaluate("Number(document.body.dataset.polls ?? 0)") >= 3,
        LIMIT_S,
    )


def pictures() -> Path | None:
    """Return where to keep the pictures, for the documents: HOPWIRE_TEST_PICTURES."""
    folder = os.environ.get("HOPWIRE_TEST_PICTURES")
    return Path(folder) if folder else None


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_it_shows(browser: Browser, screen: str, scheme: str) -> None:
    open_page(browser, screen, scheme)
    assert browser.text("state") == "ready"
    wait_for("the drops are shown", lambda: "no route" in browser.text("drops"), LIMIT_S)
    topology = browser.text("topology")
    for word in ("router", "eth0", "192.168.1.1/24", "192.168.1.2", "eth1", "192.168.0.1/24", "192.168.0.2"):
        assert word in topology
    tiles = browser.text("tiles")
    assert "every frame has a fate" in tiles
    assert "frames/s" in tiles
    services = browser.text("services")
    for process in ("control", "arp", "forwarder", "ingress-eth0", "ingress-eth1"):
        assert process in services
    assert browser.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen][0], "nothing sticks out"
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 64) if scheme == "dark" else (red > 192)
    if screen == "phone":
        small = browser.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => e.childElementCount === 0 && e.textContent.trim()"
            " && parseFloat(getComputedStyle(e).fontSize) < 10).length"
        )
        assert small == 0, "readable without a magnifying glass"
    picture = browser.screenshot()
    assert picture.startswith(b"\x89PNG")
    assert browser.console() == []
    if (folder := pictures()) is not None:
        (folder / f"status-{screen}-{scheme}.png").write_bytes(picture)


@pytest.mark.usefixtures("traffic")
def test_it_is_live(browser: Browser, lab: RouterLab) -> None:
    open_page(browser, "desktop", "light")
    with kernel(lab, "router") as netlink:
        netlink.link("add", ifname="<b>x<b>", kind="veth", peer={"ifname": "far9"})
        (index,) = netlink.link_lookup(ifname="<b>x<b>")
        try:
            wait_for("the new interface is there", lambda: "<b>x<b>" in browser.text("topology"), LIMIT_S)
        finally:
            netlink.link("del", index=index)
    wait_for("it is gone", lambda: "<b>x<b>" not in browser.text("topology"), LIMIT_S)
    lab.control().kill("arp")
    wait_for(
        "the restart is shown", lambda: "restarts" in browser.text("services") and _restarts(browser) == 1, LIMIT_S
    )
    assert browser.console() == []


def _restarts(browser: Browser) -> int:
    rows = browser.evaluate("[...document.querySelectorAll('#services tbody tr')].map(row => row.innerText)")
    (row,) = [row for row in rows if row.startswith("arp")]
    return int(row.split()[-1])


def test_it_says_so_when_nobody_answers_and_goes_on(browser: Browser, lab: RouterLab) -> None:
    open_page(browser, "desktop", "light")
    pid = lab.control().pids()["control"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for("the page says so", lambda: browser.text("state") == "no answer", LIMIT_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("it goes on", lambda: browser.text("state") == "ready" and browser.text("age") == "live", LIMIT_S)
    lab.control().wait_until_ready()
    browser.console()  # requests that ended by time are in it
