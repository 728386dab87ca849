"""Files of events and items, whoever wrote them, into the topics.

`sources` reads rows from JSON lines, CSV and Parquet; `layout` says which column is which field;
`records` makes of a row the checked record that Kafka is to get; `run` sends them, acknowledged
batch by batch, and keeps count of what was refused.
"""
