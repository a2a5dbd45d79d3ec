"""Side-by-side benchmarks of Quicklime and its peers; `python -m benchmarks --help`, figures in docs/benchmarks.md.

Server processes run on core 0 and the load on core 1. Every figure is a median, every run checks in the system's own
database that what was answered is stored, and a run during which something else used the machine is taken again.
"""
