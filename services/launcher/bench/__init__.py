"""`hopwire bench`: hopwire's forwarding against the kernel's, on the same topology, with the same generator."""
