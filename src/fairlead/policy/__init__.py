"""What to do next: order, admit, place. Later: reserve, preempt."""
