//! The OTLP receiver against real sockets and clients.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod access;
mod bad_input;
mod connections;
mod cors;
mod grpc;
mod http;
mod lifecycle;
mod stock_client;
mod support;
mod tls;
