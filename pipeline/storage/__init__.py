"""What a run leaves behind: its records, the folder that holds them, how files are written."""
