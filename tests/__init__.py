"""The tests mirror the package; what several of them share stands in command_line.py and conftest.py."""
