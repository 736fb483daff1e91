"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624)."""


def ones_complement_sum(data: bytes, initial: int = 0) -> int:
    """Return the 16-bit ones' complement sum of `data` (RFC 1071 section 1), not inverted.

    An odd last byte counts as if a zero byte followed it. `initial` is a sum to go on from.
    """
    if len(data) % 2:
        data = bytes(data) + b"\0"
    # 2**16 = 1 (mod 65535): read as one number, the text leaves the same remainder as its words
    total = initial + int.from_bytes(data, "big")
    if total == 0:
        return 0
    return total % 0xFFFF or 0xFFFF


def internet_checksum(data: bytes, initial: int = 0) -> int:
    """Return the Internet checksum of `data`: the inverted ones' complement sum (RFC 1071)."""
    return ones_complement_sum(data, initial) ^ 0xFFFF


def update_checksum(checksum: int, old_word: int, new_word: int) -> int:
    """Return `checksum` after one 16-bit word of the covered data changed from `old_word` to `new_word`.

    RFC 1624 section 3, equation 3: HC' = ~(~HC + ~m + m').
    """
    total = (checksum ^ 0xFFFF) + (old_word ^ 0xFFFF) + new_word
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
