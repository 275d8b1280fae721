//! What the protocol core has to know about a connection: who, where to, and within which limits.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::credentials::Credentials;
use crate::wire::{FRAME_MIN_SIZE, FieldTable};

/// The settings of one connection, as far as the protocol goes; how to reach the broker is in
/// [`ConnectionParameters`](crate::ConnectionParameters).
///
/// The defaults are pika's, but for the heartbeat: virtual host "/", guest / guest, no limit of our own on
/// channels, frames of 131072 bytes, the heartbeat that the server proposes. Every field can be set by the
/// method of its name. Nothing is checked before [`validate`](Self::validate), which an adapter calls before
/// it connects.
///
/// ```
/// use amqp_proto::{Config, Credentials, Heartbeat};
/// let config = Config::default()
///     .virtual_host("orders")
///     .credentials(Credentials::plain("ann", "s3cret"))
///     .heartbeat(Heartbeat::Seconds(20));
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The virtual host to open (specification, `connection.open`). At most 255 bytes, no NUL. Default "/".
    pub virtual_host: String,
    /// Who connects. Default guest / guest.
    pub credentials: Credentials,
    /// The most channels we want; 0, the default, leaves it to the server. See [`negotiate_channel_max`].
    pub channel_max: u16,
    /// The largest frame we want, in bytes with its header and end; 0 leaves it to the server. At least 4096
    /// by the protocol; RabbitMQ 4.1 and later wants at least 8192 and drops the connection without a word if
    /// it gets less. Default 131072. See [`negotiate_frame_max`].
    pub frame_max: u32,
    /// Default: what the server proposes.
    pub heartbeat: Heartbeat,
    /// The language of the server's error texts (specification, `connection.start-ok`): 1 to 255 bytes.
    /// Default "en_US", the only one RabbitMQ knows.
    pub locale: String,
    /// More client properties for `connection.start-ok`; they go over the ones of this library, under the
    /// same name.
    pub client_properties: FieldTable,
    /// Shown in RabbitMQ's management page and logs (client property `connection_name`). Default none.
    pub connection_name: Option<String>,
    /// The largest method or header frame to accept, in bytes, even where the negotiated `frame_max` is
    /// smaller: RabbitMQ does not apply it to those. At least 4096. Default 128 KiB.
    pub max_method_frame: u32,
    /// The largest message body to accept, in bytes. Default 128 MiB, which is RabbitMQ's own limit up to
    /// 3.x. Bodies that a consumer gets in pieces are exempt; messages that come back count.
    pub max_message_size: u64,
    /// How many octets of bodies of incomplete messages to hold, all channels together. Default 256 MiB.
    pub max_partial_content: u64,
    /// When more octets than this wait to be written, publishes and requests are refused with
    /// [`SendError::Full`](crate::SendError::Full); acknowledgements go on. Default 1 MiB.
    pub outbound_high_water: usize,
    /// When more octets than this of anything but messages wait to be written, acknowledgements are refused too,
    /// and nothing is read until there are fewer. Default 16 MiB.
    pub outbound_limit: usize,
    /// How many frames of mean size may wait to be written until
    /// [`Event::BackpressureOn`](crate::Event::BackpressureOn) says so; 0 is never. Default 10, as pika 0.9.
    pub backpressure_multiplier: u32,
    /// From the protocol header to `connection.open-ok`. Default 10 s, as RabbitMQ's `handshake_timeout`.
    pub handshake_timeout: Duration,
    /// From the last byte of a request to its reply. Default 30 s; [`Duration::MAX`] waits for ever.
    pub request_timeout: Duration,
    /// How long a graceful close may take until the channel or connection counts as closed anyway; of a connection's, the first
    /// half is for its channels. Default 10 s.
    pub close_timeout: Duration,
    /// How long the server may keep the connection blocked (RabbitMQ page "Blocked Connection Notifications")
    /// until it is given up. Default none: for ever.
    pub blocked_connection_timeout: Option<Duration>,
}

impl Config {
    /// The defaults of pika 0.9: as [`Config::default`], but without heartbeats.
    #[must_use]
    pub fn pika_0_9() -> Self {
        Self::default().heartbeat(Heartbeat::Off)
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// The first [`ConfigError`] found, in the order of the fields.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let length = self.virtual_host.len();
        if length > 255 {
            return Err(ConfigError::VirtualHostTooLong { length });
        }
        if self.virtual_host.contains('\0') {
            return Err(ConfigError::VirtualHostNul);
        }
        if (1..FRAME_MIN_SIZE).contains(&self.frame_max) {
            return Err(ConfigError::FrameMaxTooSmall {
                frame_max: self.frame_max,
            });
        }
        if !(1..=255).contains(&self.locale.len()) || self.locale.contains('\0') {
            return Err(ConfigError::Locale {
                length: self.locale.len(),
            });
        }
        if self.max_method_frame < FRAME_MIN_SIZE {
            return Err(ConfigError::MaxMethodFrameTooSmall {
                max_method_frame: self.max_method_frame,
            });
        }
        if self.outbound_limit < self.outbound_high_water {
            return Err(ConfigError::OutboundLimitTooSmall {
                outbound_limit: self.outbound_limit,
            });
        }
        Ok(())
    }

    /// [`validate`](Self::validate), and that a second connection can be made from the same configuration:
    /// what whoever reconnects by itself calls first, unless it gets new credentials for every connection.
    ///
    /// # Errors
    /// Also [`ConfigError::EraseOnConnectWithReconnect`].
    pub fn validate_reconnect(&self) -> Result<(), ConfigError> {
        self.validate()?;
        match self.credentials.is_erase_on_connect() {
            true => Err(ConfigError::EraseOnConnectWithReconnect),
            false => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            virtual_host: "/".into(),
            credentials: Credentials::default(),
            channel_max: 0,
            frame_max: 131_072,
            heartbeat: Heartbeat::ServerProposal,
            locale: "en_US".into(),
            client_properties: FieldTable::default(),
            connection_name: None,
            max_method_frame: 128 * 1024,
            max_message_size: 128 * 1024 * 1024,
            max_partial_content: 256 * 1024 * 1024,
            outbound_high_water: 1024 * 1024,
            outbound_limit: 16 * 1024 * 1024,
            backpressure_multiplier: 10,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
            blocked_connection_timeout: None,
        }
    }
}

/// One chainable setter for each field.
macro_rules! setters {
    ($($field:ident: $type:ty = $value:expr;)*) => {
        impl Config {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $value;
                    self
                }
            )*
        }
    };
}

setters! {
    virtual_host: impl Into<String> = virtual_host.into();
    credentials: Credentials = credentials;
    channel_max: u16 = channel_max;
    frame_max: u32 = frame_max;
    heartbeat: Heartbeat = heartbeat;
    locale: impl Into<String> = locale.into();
    client_properties: FieldTable = client_properties;
    connection_name: impl Into<String> = Some(connection_name.into());
    max_method_frame: u32 = max_method_frame;
    max_message_size: u64 = max_message_size;
    max_partial_content: u64 = max_partial_content;
    outbound_high_water: usize = outbound_high_water;
    outbound_limit: usize = outbound_limit;
    backpressure_multiplier: u32 = backpressure_multiplier;
    handshake_timeout: Duration = handshake_timeout;
    request_timeout: Duration = request_timeout;
    close_timeout: Duration = close_timeout;
    blocked_connection_timeout: Option<Duration> = blocked_connection_timeout;
}

/// The heartbeat interval to answer `connection.tune` with (RabbitMQ page "Detecting Dead TCP Connections
/// with Heartbeats"). The server goes by this answer, even if it is above its proposal.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Heartbeat {
    /// What the server proposes: 60 s unless its configuration says otherwise, and 0 (none) if it proposes 0.
    #[default]
    ServerProposal,
    /// No heartbeats in either direction: only TCP notices a dead peer, which may take a quarter of an hour.
    Off,
    /// This many seconds, whatever the server proposes; 0 is the same as [`Off`](Self::Off).
    Seconds(u16),
    /// Asked with the server's proposal in seconds; answers in seconds, 0 for none.
    Custom(Arc<dyn Fn(u16) -> u16 + Send + Sync>),
}

impl Heartbeat {
    /// A [`Custom`](Self::Custom) one.
    ///
    /// ```
    /// use amqp_proto::Heartbeat;
    /// let at_most_30 = Heartbeat::custom(|proposal| proposal.min(30));
    /// assert_eq!(at_most_30.negotiate(60), 30);
    /// ```
    #[must_use]
    pub fn custom(choose: impl Fn(u16) -> u16 + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(choose))
    }

    /// The interval to answer with, in seconds, 0 for no heartbeats; `proposal` is the server's.
    #[must_use]
    pub fn negotiate(&self, proposal: u16) -> u16 {
        match self {
            Self::ServerProposal => proposal,
            Self::Off => 0,
            Self::Seconds(seconds) => *seconds,
            Self::Custom(choose) => choose(proposal),
        }
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerProposal => f.write_str("ServerProposal"),
            Self::Off => f.write_str("Off"),
            Self::Seconds(seconds) => f.debug_tuple("Seconds").field(seconds).finish(),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// The number of channels to answer `connection.tune` with: the smaller of what we want and what the server
/// offers, where 0 is no limit. An offered limit is never answered by 0 nor exceeded, because RabbitMQ drops
/// such a client without a word. 0 only if neither side has a limit, which means 65535.
#[must_use]
pub fn negotiate_channel_max(ours: u16, offered: u16) -> u16 {
    negotiate_limit(ours, offered)
}

/// The frame size in bytes to answer `connection.tune` with, by the same rule as [`negotiate_channel_max`],
/// and never below 4096: a smaller wish of ours counts as 4096. RabbitMQ 4.1 and later refuses answers below
/// 8192.
///
/// # Errors
/// [`OfferedFrameMaxTooSmall`] if the server offers 1 to 4095, which no peer can keep.
pub fn negotiate_frame_max(ours: u32, offered: u32) -> Result<u32, OfferedFrameMaxTooSmall> {
    if (1..FRAME_MIN_SIZE).contains(&offered) {
        return Err(OfferedFrameMaxTooSmall { offered });
    }
    let ours = if ours == 0 { 0 } else { ours.max(FRAME_MIN_SIZE) };
    Ok(negotiate_limit(ours, offered))
}

/// The smaller of two limits of which 0 is none.
fn negotiate_limit<T: Ord + Default>(ours: T, offered: T) -> T {
    let none = T::default();
    if ours == none {
        offered
    } else if offered == none {
        ours
    } else {
        ours.min(offered)
    }
}

/// The server's `connection.tune` offers a `frame_max` below the protocol's minimum of 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server offers a frame_max of {offered} bytes, the protocol's minimum is 4096")]
#[non_exhaustive]
pub struct OfferedFrameMaxTooSmall {
    /// What it offers, in bytes.
    pub offered: u32,
}

/// A setting that cannot work; the message names it and says what it would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name of a virtual host is a short string: 255 bytes at most.
    #[error("virtual_host: {length} bytes, at most 255 are possible")]
    VirtualHostTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A short string must not contain a NUL byte (specification section 4.2.5.3).
    #[error("virtual_host: contains a NUL byte")]
    VirtualHostNul,
    /// Neither 0 nor at least 4096.
    #[error("frame_max: {frame_max} bytes, it must be 0 or at least 4096 (8192 for RabbitMQ 4.1 and later)")]
    FrameMaxTooSmall {
        /// What was set, in bytes.
        frame_max: u32,
    },
    /// The locale is empty, longer than 255 bytes, or contains a NUL byte.
    #[error("locale: {length} bytes, it must have 1 to 255, none of them NUL")]
    Locale {
        /// Its length in bytes.
        length: usize,
    },
    /// A server may use frames of 4096 bytes before anything was negotiated.
    #[error("max_method_frame: {max_method_frame} bytes, it must be at least 4096")]
    MaxMethodFrameTooSmall {
        /// What was set, in bytes.
        max_method_frame: u32,
    },
    /// Acknowledgements would be refused before publishes are.
    #[error("outbound_limit: {outbound_limit} octets, it must not be below outbound_high_water")]
    OutboundLimitTooSmall {
        /// What was set, in octets.
        outbound_limit: usize,
    },
    /// The credentials erase themselves once connected, so that reconnecting could never succeed.
    #[error(
        "credentials: erase_on_connect rules out reconnecting; use a credential provider or switch one of them off"
    )]
    EraseOnConnectWithReconnect,
    /// There is no host to connect to.
    #[error("hosts: there must be at least one")]
    NoHosts,
    /// A host without a name.
    #[error("hosts: number {position} has no name")]
    EmptyHost {
        /// Which one, counted from 1.
        position: usize,
    },
    /// Port 0 is no port to connect to.
    #[error("hosts: number {position} has port 0")]
    PortZero {
        /// Which one, counted from 1.
        position: usize,
    },
    /// Not even one attempt.
    #[error("connection_attempts: there must be at least one")]
    NoAttempts,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    #[test]
    fn defaults_are_pikas() {
        let config = Config::default();
        assert_eq!(config.virtual_host, "/");
        assert_eq!(config.credentials.user(), Some("guest"));
        let plain = config
            .credentials
            .select(b"PLAIN")
            .unwrap()
            .respond(0, b"")
            .unwrap();
        assert_eq!(plain.expose(), b"\0guest\0guest");
        assert_eq!((config.channel_max, config.frame_max), (0, 131_072));
        assert_eq!(config.heartbeat.negotiate(60), 60);
        assert_eq!(config.locale, "en_US");
        assert_eq!(config.client_properties, FieldTable::new());
        assert_eq!(config.connection_name, None);
        assert_eq!(config.max_method_frame, 131_072);
        assert_eq!(config.max_message_size, 134_217_728);
        let timeouts = [
            config.handshake_timeout,
            config.request_timeout,
            config.close_timeout,
        ];
        assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [10, 30, 10]);
        assert_eq!(config.blocked_connection_timeout, None);
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.validate_reconnect(), Ok(()));

        let old = Config::pika_0_9();
        assert_eq!(old.heartbeat.negotiate(60), 0);
        assert_eq!((old.channel_max, old.frame_max), (0, 131_072));
    }

    #[test]
    fn every_setter_sets_its_field() {
        let mut properties = FieldTable::new();
        properties.insert("product", "test").unwrap();
        let config = Config::default()
            .virtual_host("v")
            .credentials(Credentials::external())
            .channel_max(7)
            .frame_max(8192)
            .heartbeat(Heartbeat::Seconds(9))
            .locale("de_DE")
            .client_properties(properties.clone())
            .connection_name("me")
            .max_method_frame(10_000)
            .max_message_size(11)
            .handshake_timeout(Duration::from_secs(12))
            .request_timeout(Duration::from_secs(13))
            .close_timeout(Duration::from_secs(14))
            .blocked_connection_timeout(Some(Duration::from_secs(15)));
        assert_eq!(config.virtual_host, "v");
        assert_eq!(config.credentials.mechanisms().collect::<Vec<_>>(), ["EXTERNAL"]);
        assert_eq!((config.channel_max, config.frame_max), (7, 8192));
        assert_eq!(config.heartbeat.negotiate(60), 9);
        assert_eq!(config.locale, "de_DE");
        assert_eq!(config.client_properties, properties);
        assert_eq!(config.connection_name.as_deref(), Some("me"));
        assert_eq!((config.max_method_frame, config.max_message_size), (10_000, 11));
        let timeouts = [
            config.handshake_timeout,
            config.request_timeout,
            config.close_timeout,
        ];
        assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [12, 13, 14]);
        assert_eq!(config.blocked_connection_timeout, Some(Duration::from_secs(15)));
    }

    #[test]
    fn validate_names_the_bad_part() {
        let with = |change: fn(Config) -> Config| change(Config::default()).validate();
        assert_eq!(with(|c| c.virtual_host("v".repeat(255))), Ok(()));
        assert_eq!(
            with(|c| c.virtual_host("ä".repeat(128))),
            Err(ConfigError::VirtualHostTooLong { length: 256 })
        );
        assert_eq!(with(|c| c.virtual_host("")), Ok(()));
        assert_eq!(with(|c| c.virtual_host("a\0")), Err(ConfigError::VirtualHostNul));
        assert_eq!(with(|c| c.frame_max(0)), Ok(()));
        assert_eq!(
            with(|c| c.frame_max(1)),
            Err(ConfigError::FrameMaxTooSmall { frame_max: 1 })
        );
        assert_eq!(
            with(|c| c.frame_max(4095)),
            Err(ConfigError::FrameMaxTooSmall { frame_max: 4095 })
        );
        assert_eq!(with(|c| c.frame_max(4096)), Ok(()));
        assert_eq!(with(|c| c.locale("")), Err(ConfigError::Locale { length: 0 }));
        assert_eq!(with(|c| c.locale("x".repeat(255))), Ok(()));
        assert_eq!(
            with(|c| c.locale("x".repeat(256))),
            Err(ConfigError::Locale { length: 256 })
        );
        assert_eq!(with(|c| c.locale("\0")), Err(ConfigError::Locale { length: 1 }));
        assert_eq!(
            with(|c| c.max_method_frame(4095)),
            Err(ConfigError::MaxMethodFrameTooSmall {
                max_method_frame: 4095
            })
        );
        assert_eq!(with(|c| c.max_method_frame(4096)), Ok(()));
        let message = with(|c| c.frame_max(4095)).unwrap_err().to_string();
        assert!(message.starts_with("frame_max: 4095 bytes"), "{message}");
    }

    #[test]
    fn erase_on_connect_rules_out_reconnecting_only() {
        let config = Config::default().credentials(Credentials::default().erase_on_connect(true));
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(
            config.validate_reconnect(),
            Err(ConfigError::EraseOnConnectWithReconnect)
        );
        assert_eq!(
            config.frame_max(5).validate_reconnect(),
            Err(ConfigError::FrameMaxTooSmall { frame_max: 5 })
        );
    }

    #[test]
    fn limits_are_never_answered_by_none_nor_exceeded() {
        for (ours, offered, answer) in [
            (0, 0, 0),
            (0, 2047, 2047),
            (2047, 0, 2047),
            (1, 2047, 1),
            (2047, 1, 1),
            (u16::MAX, 2047, 2047),
            (5, 5, 5),
        ] {
            assert_eq!(negotiate_channel_max(ours, offered), answer, "{ours} {offered}");
        }
    }

    #[test]
    fn frame_max_stays_above_the_minimum() {
        for (ours, offered, answer) in [
            (0, 0, Ok(0)),
            (0, 131_072, Ok(131_072)),
            (131_072, 0, Ok(131_072)),
            (131_072, 4096, Ok(4096)),
            (1, 131_072, Ok(4096)),
            (1, 0, Ok(4096)),
            (4095, 4096, Ok(4096)),
            (u32::MAX, 131_072, Ok(131_072)),
            (131_072, 4095, Err(OfferedFrameMaxTooSmall { offered: 4095 })),
            (0, 1, Err(OfferedFrameMaxTooSmall { offered: 1 })),
        ] {
            assert_eq!(negotiate_frame_max(ours, offered), answer, "{ours} {offered}");
        }
    }

    #[test]
    fn heartbeats() {
        for (heartbeat, of_60, of_0, debug) in [
            (Heartbeat::default(), 60, 0, "ServerProposal"),
            (Heartbeat::Off, 0, 0, "Off"),
            (Heartbeat::Seconds(5), 5, 5, "Seconds(5)"),
            (Heartbeat::Seconds(600), 600, 600, "Seconds(600)"),
            (
                Heartbeat::custom(|proposal| proposal / 2 + 1),
                31,
                1,
                "Custom(..)",
            ),
        ] {
            assert_eq!((heartbeat.negotiate(60), heartbeat.negotiate(0)), (of_60, of_0));
            assert_eq!(format!("{heartbeat:?}"), debug);
        }
    }
}
