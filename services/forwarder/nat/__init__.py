"""Network address and port translation (RFC 4787, 5382, 5508): compiled, over flat arrays, without the kernel's own."""
