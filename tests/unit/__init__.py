"""One module at a time, in seconds, without the heavy frameworks."""
