"""Runs the services as local processes: `hopwire up`, labs, demo, bench, doctor."""
