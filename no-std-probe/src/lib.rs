//! Proves on the host that `amqp-proto` without its feature `std` is `no_std`, dependencies included.
//!
//! `std` has a panic handler and so has this crate. If anything here links `std`, there are two, and that is error E0152,
//! "found duplicate lang item `panic_impl`". A library needs no allocator until somebody links a program with it, so that
//! `alloc` is all the rest.
#![no_std]
extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;
use core::panic::PanicInfo;

use amqp_proto::wire::{FRAME_MIN_SIZE, FieldTable, Frame, FrameLimits, Method, QueueDeclare, RawFrame};
use amqp_proto::{ConnectionParameters, RecvBuf, SendBuf};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Writes a frame, reads it back and shows it: code is made for what is generic.
///
/// # Errors
/// None, if the codec works. They are here so that its errors need no `std` either.
pub fn declare(queue: &str) -> Result<String, Failure> {
    let arguments = FieldTable::new()
        .with("x-queue-type", "quorum")?
        .with("x-delivery-limit", 5)?;
    let declare = QueueDeclare {
        queue: queue.try_into()?,
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    let mut octets = Vec::new();
    Method::from(declare).encode(&mut octets, 1, FRAME_MIN_SIZE)?;

    let mut input = RecvBuf::new();
    input.extend(&octets);
    let Some(raw) = RawFrame::parse(input.unread(), &FrameLimits::default())? else {
        return Ok(String::new());
    };
    Ok(match raw.decode()? {
        Frame::Method {
            method: Method::QueueDeclare(read),
            ..
        } if read == declare => raw.decode()?.to_string(),
        other => alloc::format!("{other:?}"),
    })
}

/// The same with what a connection writes into.
///
/// # Errors
/// As [`declare`].
pub fn output(queue: &str) -> Result<SendBuf, Failure> {
    let mut output = SendBuf::new();
    output.protocol_header();
    let declare = QueueDeclare {
        queue: queue.try_into()?,
        ..Default::default()
    };
    output.method(1, &declare, FRAME_MIN_SIZE)?;
    Ok(output)
}

/// What a URI says.
///
/// # Errors
/// As [`ConnectionParameters::from_uri`].
pub fn parameters(uri: &str) -> Result<ConnectionParameters, Failure> {
    Ok(ConnectionParameters::from_uri(uri)?)
}

/// Any error.
pub type Failure = alloc::boxed::Box<dyn Error + Send + Sync>;
