"""Pictures: read from files, laid out in grids, written to files."""
