"""What `headrace bench streams` measures: a worker as it is shipped, beside a bare Faust agent."""
