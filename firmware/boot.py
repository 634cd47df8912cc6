"""Runs before main.py on every boot of a board; there is nothing to do that early. A wake begins in main.py."""
