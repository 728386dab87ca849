"""What requests hold and answers show: a module for each thing that they are about."""
