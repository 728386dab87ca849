"""What the commands of `headrace.cli` do, where that is more than a call."""
