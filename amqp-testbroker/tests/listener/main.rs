//! The broker on TCP and on TLS, as clients meet it.
#![cfg(feature = "listener")]

mod client;
#[cfg(feature = "cli")]
mod program;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
