"""The command line: options, files, the log, and one line for each failure."""
