//! Assembly of one node: configuration, wiring, telemetry, shutdown.
