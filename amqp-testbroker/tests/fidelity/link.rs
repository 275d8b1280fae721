//! What a session speaks through: a socket to RabbitMQ, or a broker in this thread.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use amqp_proto::{Instant, RecvBuf, SendBuf};
use amqp_testbroker::{Broker, ConnectionKey};
use bytes::Buf;

/// What came of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchanged {
    /// Octets came.
    Something,
    /// None came for as long as that.
    Nothing,
    /// The stream has ended, in whatever way, and all that came before was read.
    End,
}

/// One stream, and the time that goes by with it.
pub(crate) trait Link {
    /// Writes all of `output`, then waits for something to read, as long as `patience` at most.
    fn exchange(&mut self, output: &mut Vec<u8>, input: &mut RecvBuf, patience: Duration) -> Exchanged;
}

/// TCP and real time.
pub(crate) struct Socket(pub(crate) TcpStream);

impl Link for Socket {
    fn exchange(&mut self, output: &mut Vec<u8>, input: &mut RecvBuf, patience: Duration) -> Exchanged {
        // Why it fails is known by reading.
        let _ = self.0.write_all(output);
        output.clear();
        let patience = patience.max(Duration::from_millis(1));
        self.0.set_read_timeout(Some(patience)).unwrap();
        match self.0.read(input.spare_mut()) {
            Ok(0) => Exchanged::End,
            Ok(count) => {
                input.advance(count);
                Exchanged::Something
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Exchanged::Nothing
            }
            Err(_) => Exchanged::End,
        }
    }
}

/// A broker and its clock.
pub(crate) struct Machine {
    broker: Broker,
    now: Instant,
}

impl Machine {
    pub(crate) fn new(broker: Broker) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            broker,
            now: Instant::EPOCH,
        }))
    }
}

/// A stream to a broker in this thread: nothing takes time, and waiting jumps to the next deadline.
pub(crate) struct Direct {
    machine: Rc<RefCell<Machine>>,
    connection: ConnectionKey,
    /// What the broker has not read yet.
    inbound: RecvBuf,
}

impl Direct {
    pub(crate) fn new(machine: &Rc<RefCell<Machine>>) -> Self {
        let mut guard = machine.borrow_mut();
        let now = guard.now;
        Self {
            machine: Rc::clone(machine),
            connection: guard.broker.accept(now),
            inbound: RecvBuf::new(),
        }
    }

    fn write(&mut self, machine: &mut Machine, output: &mut Vec<u8>) {
        loop {
            let written = self.inbound.extend(output);
            output.drain(..written);
            let before = self.inbound.unread().len();
            machine
                .broker
                .handle_input(self.connection, machine.now, &mut self.inbound);
            let is_read = self.inbound.unread().len() < before;
            if output.is_empty() || !is_read && written == 0 {
                return;
            }
        }
    }

    fn read(&mut self, machine: &mut Machine, input: &mut RecvBuf) -> bool {
        let mut outbound = SendBuf::new();
        let mut is_something = false;
        while machine
            .broker
            .poll_transmit(self.connection, machine.now, &mut outbound)
        {
            while outbound.has_remaining() {
                let count = input.extend(outbound.chunk());
                assert_ne!(count, 0, "more than a session can hold");
                outbound.advance(count);
                is_something = true;
            }
        }
        is_something
    }
}

impl Link for Direct {
    fn exchange(&mut self, output: &mut Vec<u8>, input: &mut RecvBuf, patience: Duration) -> Exchanged {
        let machine = Rc::clone(&self.machine);
        let machine = &mut *machine.borrow_mut();
        let until = machine.now + patience;
        for _ in 0..10_000 {
            self.write(machine, output);
            if self.read(machine, input) {
                return Exchanged::Something;
            }
            if machine.broker.is_over(self.connection) {
                return Exchanged::End;
            }
            match machine.broker.poll_timeout() {
                Some(deadline) if deadline <= until => {
                    machine.now = machine.now.max(deadline);
                    machine.broker.handle_timeout(machine.now);
                }
                _ => {
                    machine.now = until;
                    return Exchanged::Nothing;
                }
            }
        }
        panic!("time does not go on");
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // A broker that has panicked is still borrowed.
        if let Ok(mut machine) = self.machine.try_borrow_mut() {
            let now = machine.now;
            machine.broker.handle_disconnect(self.connection, now);
        }
    }
}
