"""`python -m simulators NAME …` is `streammeta simulate NAME …`."""

import sys

from streammeta.cli import app

if __name__ == "__main__":
    app(["simulate", *sys.argv[1:]], prog_name="python -m simulators")
