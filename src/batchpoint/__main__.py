"""`python -m batchpoint` is the `batchpoint` command."""

from batchpoint.cli.main import main

if __name__ == "__main__":
    main()
