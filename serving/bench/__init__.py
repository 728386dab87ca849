"""What `headrace bench serving` measures: a server as it is shipped, beside a plain route."""
