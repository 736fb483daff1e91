"""ingress: reads one interface's raw frames and hands them on. It knows nothing of IP."""
