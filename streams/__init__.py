"""Kafka in: Faust agents that apply events to sessions and items to the catalogue.

`app` lists what runs; `agents` says what becomes of a record; `failure` says what happens when
something goes wrong; `triggers` fires the retrain event; `bench` measures all of it.
"""
