//! The loop with callbacks, on the embedded broker and on RabbitMQ.

#[macro_use]
mod world;
mod alone;
mod embedded;
mod idle;
mod late;
mod reconnecting;
mod recovering;
mod republishing;
mod select;
mod shutdown;
mod streams;
mod talking;
