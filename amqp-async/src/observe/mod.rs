//! What the program's operator gets to see: spans and events, and numbers, if the features are on. With them off nothing of this is
//! left: all types are empty and all functions do nothing.
//!
//! Subscribers and recorders are the user's code. They are called where no lock is held: what happens under the connection's lock is
//! noted in [`Notes`], and the driver tells it afterwards.

#[cfg_attr(feature = "metrics", path = "meters.rs")]
#[cfg_attr(not(feature = "metrics"), path = "no_meters.rs")]
mod meters;
#[cfg_attr(feature = "tracing", path = "spans.rs")]
#[cfg_attr(not(feature = "tracing"), path = "no_spans.rs")]
mod spans;

pub(crate) use meters::{InHand, Measured, Meters, Outcome, Sample, Told};
pub(crate) use spans::{forgotten, processing, publishing, refreshing, unlimited};

use amqp_proto::{Connection, Event};

use crate::shared::State;

/// What was noted under the lock since it was told last.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    happened: spans::Happened,
    pub(crate) measured: Measured,
}

impl Notes {
    /// Something other than a message or an answer came.
    #[inline]
    pub(crate) fn note(&mut self, event: &Event, connection: &Connection) {
        self.happened.note(event, connection);
    }

    /// All that was noted, to be told where no lock is held.
    #[inline]
    pub(crate) fn take(state: &mut State) -> Self {
        let measured = Measured::take(state);
        let happened = state.notes.happened.take();
        Self { happened, measured }
    }

    /// Tells it.
    #[inline]
    pub(crate) fn tell(self, meters: &Meters, told: &mut Told) {
        self.happened.tell();
        self.measured.tell(meters, told);
    }
}

/// With the features off, they take no room.
#[cfg(not(any(feature = "metrics", feature = "tracing")))]
const _: () = assert!(size_of::<(Notes, Meters, Told, Sample, InHand)>() == 0);
