"""`docker compose down` leaves nothing behind."""

import subprocess

from lab import ComposeLab


def host_links() -> set[str]:
    """Return the names of the links of the engine's machine, as far as Docker makes them."""
    done = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)
    names = {line.split()[0].partition("@")[0] for line in done.stdout.splitlines()}
    return {name for name in names if name.startswith(("br-", "veth"))}


def test_down_leaves_nothing_behind(engine: ComposeLab) -> None:
    engine.down()
    before = host_links()
    engine.up()
    assert engine.leftovers()
    assert host_links() > before
    engine.down()
    assert engine.leftovers() == []
    assert host_links() == before


def test_every_process_heeds_the_engine(lab: ComposeLab) -> None:
    containers = [
        lab.container(service) for service in ("control", "arp", "forwarder", "ingress1", "ingress2", "router")
    ]
    lab.run("docker", "compose", "stop")
    for container in containers:
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, container.name
