"""What every part may use: timestamps, words, signals."""
