"""Small programs that measure a network from inside a host: ping, traceroute, TCP transfer.

Each runs as `python -m services.launcher.probes.NAME --netns NAMESPACE ...`, needs nothing but the standard
library, and prints for people or, with `--json`, for programs.
"""
