"""The model: `training` makes versions of it, `retrieval` answers from them."""
