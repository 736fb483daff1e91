"""What compiled code shows of the frames it sees: drops to the flight recorder, wanted frames to taps.

The layouts are those of `recording` and `tap`; the functions here write them from within a loop over frames. While
nobody captures, the table of taps has no rows, which the loop sees once a batch.
"""

import mmap
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common import packet_filter as pf
from services.common import recording, tap
from services.common.counters import COLUMNS, MAX_INTERFACES
from services.common.insight import Insight
from services.common.kernels import inlined, record
from services.common.memory import bytes_at, copy_bytes, load_acquire, release_fence, store_release, words_at
from services.common.wire import arp, ethernet, ipv4, virtio_net

# Columns of the table of taps: addresses in this process, and what the client wants
_HEADER: Final = 0
_AREA: Final = 1
_AREA_BYTES: Final = 2
_KINDS: Final = 3
_INTERFACE: Final = 4
_SNAP: Final = 5
_PROGRAM: Final = 6
_INSTRUCTIONS: Final = 7
_TAP_COLUMNS: Final = 8

_NO_ROW: Final = -1
_NOTHING: Final = 0
_VIRTIO: Final = virtio_net.HEADER_BYTES
_ETHERNET: Final = ethernet.HEADER_BYTES
_TCP: Final = ipv4.PROTOCOL_TCP
_UDP: Final = ipv4.PROTOCOL_UDP


class Observer(NamedTuple):
    """What compiled code needs to show frames."""

    taps: npt.NDArray[np.int64]
    """(taps, columns)"""
    interfaces: npt.NDArray[np.int64]
    """(slots,) the interface's index of each slot of the forwarder's."""
    batches: npt.NDArray[np.int64]
    """(1,) how many batches there were while taps were there: the number of the present one."""
    fields: npt.NDArray[np.int64]
    """(FIELDS,) of the frame that is looked at."""
    rows: npt.NDArray[np.int64]
    """(COLUMNS,) the word at which each drop reason's row begins in the recording; -1 for none."""
    words: npt.NDArray[np.int64]
    """The recording, and once more as bytes."""
    octets: npt.NDArray[np.uint8]


OBSERVER: Final = record(Observer, "int64[:, ::1]", *["int64[::1]"] * 5, "uint8[::1]")


class Observing:
    """A service's observer, and its upkeep."""

    def __init__(self, insight: Insight) -> None:
        """Map the recording."""
        self.insight = insight
        size = insight.recording.words * 8
        self._map = mmap.mmap(insight.recording.fileno(), size)
        self._rows = np.full(COLUMNS, _NO_ROW, np.int64)
        for reason, row in insight.recording.rows.items():
            self._rows[reason] = recording.row_start(row)
        self._words = np.frombuffer(self._map, np.int64)
        self._octets = np.frombuffer(self._map, np.uint8)
        self.interfaces = np.zeros(MAX_INTERFACES, np.int64)
        self._batches = np.zeros(1, np.int64)
        self._fields = np.zeros(pf.FIELDS, np.int64)
        self._collect()

    def refresh(self) -> None:
        """See to taps that came or went. To be called a few times a second, between two batches."""
        if self.insight.refresh():
            self._collect()

    @property
    def recorder(self) -> Observer:
        """What records drops, and shows nothing: for frames that were shown when they came."""
        return self.arrays._replace(taps=np.zeros((0, _TAP_COLUMNS), np.int64))

    def _collect(self) -> None:
        taps = self.insight.taps
        self._programs = [np.array([*each.wish.program, (0,) * pf.INSTRUCTION_WORDS], np.int64) for each in taps]
        table = np.zeros((len(taps), _TAP_COLUMNS), np.int64)
        for row, each, program in zip(table, taps, self._programs, strict=True):
            memory = np.frombuffer(each.memory, np.uint8).ctypes.data
            row[_HEADER], row[_AREA], row[_AREA_BYTES] = memory, memory + tap.HEADER_WORDS * 8, each.area_bytes
            row[_KINDS], row[_INTERFACE], row[_SNAP] = each.wish.kinds, each.wish.interface, each.wish.snap
            row[_PROGRAM], row[_INSTRUCTIONS] = program.ctypes.data, len(program) - 1
        self.arrays = Observer(
            table, self.interfaces, self._batches, self._fields, self._rows, self._words, self._octets
        )


def unobserved() -> Observer:
    """Return an observer that shows nothing: for frames that were never received."""
    return Observer(
        np.zeros((0, _TAP_COLUMNS), np.int64),
        np.zeros(MAX_INTERFACES, np.int64),
        np.zeros(1, np.int64),
        np.zeros(pf.FIELDS, np.int64),
        np.full(COLUMNS, _NO_ROW, np.int64),
        np.zeros(1, np.int64),
        np.zeros(8, np.uint8),
    )


@inlined
def is_watched(observer: Any) -> Any:
    """Tell whether anybody captures."""
    return observer.taps.shape[0] != 0


# --- the flight recorder ---------------------------------------------------------------------------------------------


@inlined
def record_drop(observer: Any, reason: Any, time_ns: Any, interface: Any, area: Any, start: Any, length: Any) -> None:
    """Keep the head of a dropped frame, in place of the oldest one of this reason.

    :param start: of the Ethernet frame in `area`; `length` is 0 where nobody knows where it lies.
    """
    row = observer.rows[reason]
    if row == _NO_ROW:
        return
    words = observer.words
    number = words[row + recording.DONE]
    words[row + recording.BEGUN] = number + 1
    release_fence()
    entry = row + recording.ROW_HEADER_WORDS + number % recording.KEPT * recording.ENTRY_WORDS
    kept = min(length, recording.DATA_BYTES)
    words[entry + recording.TIME_NS] = time_ns
    words[entry + recording.INTERFACE] = interface
    words[entry + recording.LENGTH] = length
    words[entry + recording.CAPTURED] = kept
    copy_bytes(observer.octets, (entry + recording.DATA) * 8, area, start, kept)
    store_release(words, row + recording.DONE, number + 1)


# --- filters ---------------------------------------------------------------------------------------------------------


@inlined
def _read16(area: Any, place: Any) -> Any:
    return np.int64(area[place]) << 8 | np.int64(area[place + 1])


@inlined
def _read32(area: Any, place: Any) -> Any:
    return _read16(area, place) << 16 | _read16(area, place + 2)


@inlined
def read_fields(fields: Any, area: Any, start: Any, length: Any) -> None:
    """Fill in the fields of a whole Ethernet frame: `packet_filter.fields_of`."""
    fields[:] = pf.ABSENT
    fields[pf.LENGTH] = length
    if length < _ETHERNET:
        return
    ethertype = _read16(area, start + ethernet.ETHERTYPE)
    fields[pf.ETHERTYPE] = ethertype
    payload = start + _ETHERNET
    if ethertype == ethernet.ETHERTYPE_ARP and length >= _ETHERNET + arp.MESSAGE_BYTES:
        fields[pf.SOURCE] = _read32(area, payload + pf.ARP_SENDER)
        fields[pf.DESTINATION] = _read32(area, payload + pf.ARP_TARGET)
    elif ethertype == ethernet.ETHERTYPE_IPV4 and length >= _ETHERNET + ipv4.HEADER_BYTES:
        fields[pf.SOURCE] = _read32(area, payload + ipv4.SOURCE)
        fields[pf.DESTINATION] = _read32(area, payload + ipv4.DESTINATION)
        protocol = np.int64(area[payload + ipv4.PROTOCOL])
        fields[pf.PROTOCOL] = protocol
        ports = np.int64(area[payload] & 0xF) * 4
        is_first = _read16(area, payload + ipv4.FLAGS_FRAGMENT) & ipv4.OFFSET_MASK == 0
        if protocol in (_TCP, _UDP) and is_first and length >= _ETHERNET + ports + 4:
            fields[pf.SOURCE_PORT] = _read16(area, payload + ports)
            fields[pf.DESTINATION_PORT] = _read16(area, payload + ports + 2)


@inlined
def accepts(program: Any, instructions: Any, fields: Any) -> Any:
    """Run a sound program: `packet_filter.matches`."""
    place = np.int64(0) if instructions else np.int64(pf.ACCEPT)
    while place >= 0:
        at = place * pf.INSTRUCTION_WORDS
        value = fields[program[at + pf.FIELD]]
        masked = value & program[at + pf.MASK]
        fits = value != pf.ABSENT and program[at + pf.LOW] <= masked <= program[at + pf.HIGH]
        place = program[at + pf.YES] if fits else program[at + pf.NO]
    return place == pf.ACCEPT


# --- taps ------------------------------------------------------------------------------------------------------------


@inlined
def _count_missed(words: Any, interface: Any) -> None:
    words[tap.MISSED] += 1
    for pair in range(tap.MISSED_PAIRS):
        place = tap.MISSED_AT + 2 * pair
        if words[place] == interface or words[place + 1] == 0:
            words[place] = interface
            words[place + 1] += 1
            return


@inlined
def _reserve(words: Any, row: Any, size: Any) -> Any:
    """Return the position for a record, behind padding where it needs some, or FULL."""
    head = words[tap.HEAD]
    to_end = row[_AREA_BYTES] - head % row[_AREA_BYTES]
    padding = to_end if to_end < size else np.int64(0)
    used = head - load_acquire(words, tap.TAIL)
    if used < 0 or used > row[_AREA_BYTES] - padding - size:
        return np.int64(tap.FULL)
    if padding >= tap.RECORD_BYTES:
        filler = words_at(row[_AREA] + head % row[_AREA_BYTES], tap.RECORD_WORDS)
        filler[tap.BYTES] = padding
        filler[tap.KIND] = tap.PADDING
    return head + padding


@inlined
def wants(observer: Any, number: Any, kinds: Any, interface: Any, area: Any, start: Any, length: Any) -> Any:
    """Tell whether a tap is for a frame: its kind, its interface, what its filter says."""
    row = observer.taps[number]
    if row[_KINDS] & kinds == 0 or row[_INTERFACE] not in (0, interface):
        return False
    if row[_INSTRUCTIONS] == 0:
        return True
    read_fields(observer.fields, area, start, length)
    program = words_at(row[_PROGRAM], row[_INSTRUCTIONS] * pf.INSTRUCTION_WORDS)
    return accepts(program, row[_INSTRUCTIONS], observer.fields)


@inlined
def put(observer: Any, number: Any, kind: Any, time_ns: Any, interface: Any, area: Any, start: Any, length: Any) -> Any:
    """Begin a record in a tap: return the address of its words, or 0 where the frame is missed. `publish` ends it."""
    row = observer.taps[number]
    words = words_at(row[_HEADER], tap.HEADER_WORDS)
    captured = min(length, row[_SNAP])
    size = (tap.RECORD_BYTES + captured + tap.ALIGNMENT - 1) // tap.ALIGNMENT * tap.ALIGNMENT
    head = _reserve(words, row, size)
    if head == tap.FULL:
        _count_missed(words, interface)
        return np.int64(_NOTHING)
    place = head % row[_AREA_BYTES]
    fields = words_at(row[_AREA] + place, tap.RECORD_WORDS)
    fields[:] = 0
    fields[tap.BYTES] = size
    fields[tap.KIND] = kind
    fields[tap.TIME_NS] = time_ns
    fields[tap.INTERFACE] = interface
    fields[tap.LENGTH] = length
    fields[tap.CAPTURED] = captured
    fields[tap.VERDICT] = pf.ABSENT
    fields[tap.BATCH_NUMBER] = observer.batches[0]
    copy_bytes(bytes_at(row[_AREA], row[_AREA_BYTES]), place + tap.RECORD_BYTES, area, start, captured)
    return row[_AREA] + place


@inlined
def publish(observer: Any, number: Any, address: Any) -> None:
    """Hand a record that `put` began to the client, and with it the padding before it."""
    row = observer.taps[number]
    words = words_at(row[_HEADER], tap.HEADER_WORDS)
    head = words[tap.HEAD]
    place = address - row[_AREA]
    padding = (place - head % row[_AREA_BYTES]) % row[_AREA_BYTES]
    store_release(words, tap.HEAD, head + padding + words_at(address, tap.RECORD_WORDS)[tap.BYTES])


@inlined
def show(
    observer: Any,
    kinds: Any,
    kind: Any,
    time_ns: Any,
    interface: Any,
    verdict: Any,
    area: Any,
    start: Any,
    length: Any,
) -> None:
    """Write a frame to the taps that want it.

    :param kinds: the bits of which a tap must want one; the record is of `kind`.
    """
    for number in range(observer.taps.shape[0]):
        if wants(observer, number, kinds, interface, area, start, length):
            address = put(observer, number, kind, time_ns, interface, area, start, length)
            if address != _NOTHING:
                words_at(address, tap.RECORD_WORDS)[tap.VERDICT] = verdict
                publish(observer, number, address)
