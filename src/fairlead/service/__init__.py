"""The real world's shell: one writer, one socket, and the commands that start and stop it."""
