//! Client sessions over gRPC and AMQP.
