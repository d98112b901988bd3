"""`python -m streammeta`: the command line, where no script was installed or it is not on the path."""

from streammeta.cli import main

if __name__ == "__main__":
    main()
