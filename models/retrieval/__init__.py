"""What serving runs of a model version: no TensorFlow, only NumPy, LiteRT and ScaNN.

A `Retriever` answers from an `Artifact`, the files of one version: the session becomes the query
tower's input (`features`), the tower (`tower`) makes a query vector of it, and the index (`index`)
finds the items whose vectors have the largest dot product with it. What a request allows (`limits`,
`filters`) is a mask over the items (`items`, `attributes`), within which `limited` finds the best.
"""

from models.retrieval.artifact import Artifact, load_artifact
from models.retrieval.index import ExactIndex, ItemIndex, ScannIndex
from models.retrieval.recommendations import Recommendations
from models.retrieval.retriever import Retriever

__all__ = [
    "Artifact",
    "ExactIndex",
    "ItemIndex",
    "Recommendations",
    "Retriever",
    "ScannIndex",
    "load_artifact",
]
