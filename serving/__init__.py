"""HTTP out: live recommendations, events in, models and tasks.

`app` lists the routes; `recommender` is the way of a request; `live_model` takes up new versions
and follows the catalogue.
"""
