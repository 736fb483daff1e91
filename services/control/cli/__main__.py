"""`python -m services.control.cli`."""

from services.control.cli.main import main

main()
