"""`python -m services.launcher`: the same as the program `hopwire`."""

from services.launcher.main import main

if __name__ == "__main__":
    main()
