"""One header a file: bytes in, fields out, and back. Offsets stand here and nowhere else. No I/O."""
