"""The OpenAPI document: of parameters, operations and types, put together."""
