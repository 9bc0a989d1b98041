//! HTTP messages, machines and connection drivers.
