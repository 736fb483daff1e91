"""The one error that any bytes may give."""


class WireError(ValueError):
    """Bytes that are no valid header of the protocol asked for; the text says which rule they break."""
