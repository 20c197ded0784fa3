//! HTTP API, web console, metrics and health endpoints.
