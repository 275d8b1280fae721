//! What a [`TlsConfig`](amqp_net::TlsConfig) asks for is what a real TLS server gets: rustls, in memory.

mod authority;
mod certificates;
mod handshake;
mod materials;
mod suites;
mod system;
