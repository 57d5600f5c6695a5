"""Ours beside peers and limits, measured in one run: `python -m benchmarks` (`make bench`).

Every module but the helpers is one group of lines with a function `measure`. Nothing is kept: all
files are in a temporary folder, no network is used, and both sides of a ratio take turns.
"""
