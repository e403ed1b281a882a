"""Another farm while we serve: its file is watched, read, checked and swapped in."""
