"""`python -m thermolab`: the command line, where the script `thermolab` is not on the path."""

from thermolab.cli import main

if __name__ == "__main__":
    main()
