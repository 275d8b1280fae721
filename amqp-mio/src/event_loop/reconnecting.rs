//! Connections that are made again when they are lost.

use std::time::Duration;

use amqp_proto::{
    CloseReason, Connection, GiveUpReason, Host, Instant, Reconnect, ReconnectAction, ReconnectPolicy,
};

use crate::{ConnectError, Connector, MioConnection};

/// The core's plan at work, on a clock.
#[derive(Debug)]
pub(super) struct Reconnecting {
    connector: Connector,
    hosts: Vec<Host>,
    plan: Reconnect,
    epoch: std::time::Instant,
    incarnation: u32,
}

impl Reconnecting {
    pub(super) fn new(connector: &Connector, policy: ReconnectPolicy) -> Result<Self, ConnectError> {
        let mut connector = connector.clone();
        let parameters = connector.parameters_mut();
        parameters.validate()?;
        parameters.config.validate_reconnect()?;
        // The plan says what is tried next, and when.
        parameters.connection_attempts = 1;
        let hosts = parameters.hosts.clone();
        Ok(Self {
            plan: Reconnect::new(policy, hosts.len()),
            incarnation: connector.incarnation(),
            connector,
            hosts,
            epoch: std::time::Instant::now(),
        })
    }

    /// The first attempt.
    pub(super) fn begin(&mut self) -> Result<MioConnection, ConnectError> {
        match self.plan.start(self.now()) {
            ReconnectAction::ConnectAt { host, .. } => self.connect(host, Duration::ZERO),
            // Without hosts; that was refused before.
            _ => self.connector.connect(),
        }
    }

    pub(super) fn connected(&mut self) {
        self.plan.connected(self.now());
    }

    /// How long there may still be no connection; none while there is one, and if there is no such limit.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let end = self.plan.give_up_at()?;
        Some(end.duration_since(self.now()))
    }

    /// What follows on this connection, which ended so, and after what delay.
    pub(super) fn next(
        &mut self,
        ended: &MioConnection,
        reason: &CloseReason,
    ) -> Result<(MioConnection, Duration), GiveUpReason> {
        // It may have opened channels.
        self.incarnation = ended
            .core()
            .map_or(self.incarnation, Connection::next_incarnation);
        let now = self.now();
        match self.plan.failed(reason, now) {
            ReconnectAction::ConnectAt { host, at } => {
                let delay = at.duration_since(now);
                let connection = self.connect(host, delay);
                // Files with certificates may be gone.
                let connection = connection.map_err(|error| GiveUpReason::Permanent(error.into()))?;
                Ok((connection, delay))
            }
            ReconnectAction::GiveUp { reason } => Err(reason),
            _ => Err(GiveUpReason::Exhausted(reason.clone())),
        }
    }

    fn connect(&mut self, host: usize, delay: Duration) -> Result<MioConnection, ConnectError> {
        let host = self.hosts.get(host).cloned();
        self.connector.parameters_mut().hosts = host.into_iter().collect();
        self.connector
            .clone()
            .first_incarnation(self.incarnation)
            .connect_after(delay)
    }

    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }
}
