//! JSON of the HTTP API.
