"""Checks of what is in deploy/, with the tools that would use it: `make deploy-check`."""
