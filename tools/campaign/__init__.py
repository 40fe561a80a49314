"""Thousands of damaged models, killed runs, faults and crowds: `README.md` says how to run them."""
