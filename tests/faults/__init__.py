"""Faults from outside: killed processes, full disks, closed streams, folders that vanish, two writers at once."""
