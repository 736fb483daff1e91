"""The picture of the benchmark, drawn from made-up figures."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from services.common.errors import HopwireError
from services.launcher.bench import picture

SVG = "{http://www.w3.org/2000/svg}"


def document(**ratios: tuple[float, float]) -> dict[str, Any]:
    """Return what the benchmark writes, with these ratios to the kernel and the kernel with RPS."""
    return {
        "machine": {"cpu": "Made <up> & sold", "cpus": 2, "kernel": "6.1.0-13-amd64", "python": "3.11", "numba": "0"},
        "samples": {"hopwire": [{}, {}, {}]},
        "ratios": {
            "kernel": {name: both[0] for name, both in ratios.items()},
            "kernel+RPS": {name: both[1] for name, both in ratios.items()},
        },
    }


def bars(svg: str) -> dict[str, list[float]]:
    """Return the widths of the bars of either baseline; the first of each is its sign in the legend."""
    found: dict[str, list[float]] = {"bar0": [], "bar1": []}
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        if rect.attrib["class"] in found:
            found[rect.attrib["class"]].append(float(rect.attrib["width"]))
    return {name: widths[1:] for name, widths in found.items()}


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_ratios() -> None:
    svg = picture.draw(document(packets_60=(1.0, 0.5), tcp_forth=(2.0, 1.5)))
    found = bars(svg)
    unit = found["bar0"][0]
    assert found["bar0"] == pytest.approx([unit, 2 * unit], abs=0.2)
    assert found["bar1"] == pytest.approx([0.5 * unit, 1.5 * unit], abs=0.2)
    assert [text for text in texts(svg) if text in ("1.00", "0.50", "2.00", "1.50")] == ["1.00", "0.50", "2.00", "1.50"]
    equal = [line for line in ElementTree.fromstring(svg).iter(f"{SVG}line") if line.attrib["class"] == "equal"]
    (first, *_) = [rect for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect") if rect.attrib["class"] == "bar0"][
        1:
    ]
    assert [float(line.attrib["x1"]) for line in equal] == pytest.approx([float(first.attrib["x"]) + unit], abs=0.2)


def test_of_times_the_shorter_is_the_longer_bar() -> None:
    svg = picture.draw(document(packets_60=(1.0, 1.0), flood_rtt=(4.0, 0.5), cpu_60=(2.0, 1.0)))
    found = bars(svg)
    unit = found["bar0"][0]
    assert found["bar0"] == pytest.approx([unit, unit / 4, unit / 2], abs=0.2)
    assert found["bar1"] == pytest.approx([unit, 2 * unit, unit], abs=0.2)
    assert "4.0 times the time" in texts(svg)
    assert "2.0 times the CPU" in texts(svg)


def test_what_was_not_measured_against_both_is_left_out() -> None:
    found = document(packets_60=(1.0, 1.0), loss_free=(0.9, 0.8))
    del found["ratios"]["kernel"]["loss_free"]
    assert not [text for text in texts(picture.draw(found)) if "loss-free" in text]


def test_it_says_what_was_measured_on_and_is_for_light_and_dark() -> None:
    svg = picture.draw(document(packets_60=(1.0, 1.0)))
    assert "Medians of 3 rounds on 2 cores (Made <up> & sold), Linux 6.1.0. hopwire bench" in texts(svg)
    assert "prefers-color-scheme: dark" in svg
    table = picture.draw(document(packets_60=(1.0, 1.0)) | {"routes": 901_899})
    assert [text for text in texts(table) if "Linux 6.1.0, 901,899 routes." in text]


@pytest.mark.parametrize("ratios", [(0.01, 0.02), (40.0, 30.0)])
def test_nothing_leaves_the_picture(ratios: tuple[float, float]) -> None:
    svg = ElementTree.fromstring(picture.draw(document(packets_60=ratios, idle_rtt=ratios, cpu_60=ratios)))
    width = float(svg.attrib["width"])
    for rect in svg.iter(f"{SVG}rect"):
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(document(packets_60=(1.0, 0.5))))
    assert picture.main([str(file)]) == 0
    assert capsys.readouterr().out == picture.draw(document(packets_60=(1.0, 0.5)))


@pytest.mark.parametrize("text", [None, "no JSON", '{"rates": {}}'])
def test_a_file_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None) -> None:
    file = tmp_path / "bench.json"
    if text is not None:
        file.write_text(text)
    assert picture.main([str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("picture: ")
    assert "hopwire bench --output" in line


def test_a_document_without_ratios() -> None:
    with pytest.raises(HopwireError, match="no ratios"):
        picture.draw({"machine": {}, "samples": {}})
