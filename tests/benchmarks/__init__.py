"""Speed of hubkeras beside its peers: `python -m tests.benchmarks --help`."""
