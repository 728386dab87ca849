"""The models: `training` makes versions, `retrieval` answers from them."""
