"""`python -m lorimer` is the console script."""

from lorimer.cli import main

if __name__ == "__main__":
    main()
