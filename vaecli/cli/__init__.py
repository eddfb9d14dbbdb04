"""The command line: parsing, help pages, completions, and what a terminal shows."""
