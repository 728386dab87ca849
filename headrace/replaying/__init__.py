"""Replaying a window of the log into the state: the live one, or a shadow rebuilt from nothing.

`window` says what is replayed, and `lost` what of it nobody holds any more; `order` brings it into
the one order that every replay keeps, `run` applies it to one of the `targets`, `shadow` remembers
in Redis how far a shadow has come; `course` is all of that for what was asked. Asked for over HTTP,
a replay waits in `queue` for a `job`.
"""
