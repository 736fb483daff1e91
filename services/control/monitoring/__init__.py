"""What control shows of the router to those who watch it: metrics for Prometheus, a status page, events in the log."""
