//! Sans-IO AMQP 0-9-1: frames, methods, field tables, connection and channel state machines.
