"""Benchmarks: one script a subject. Run one as `python -m tests.benchmarks.startup`; pytest leaves them alone."""
