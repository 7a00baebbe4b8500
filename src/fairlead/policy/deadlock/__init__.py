"""Jobs that wait for each other: avoided, found and broken, or ruled out by a global order."""
