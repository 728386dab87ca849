"""The browser console: a client of the public HTTP API like any other, in a process of its own."""
