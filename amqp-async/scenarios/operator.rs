//! Who runs the broker, and what can happen to a client because of that.

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use amqp_async::proto::Instant;
use amqp_async::proto::wire::{Method, ReplyCode};
use amqp_testbroker::{
    Access, Broker, BrokerConfig, ConnectionInfo, MethodFault, Permissions, TestBroker, User,
};

/// Has power over the broker of a scenario.
#[derive(Debug, Clone)]
pub(crate) enum Operator {
    /// The embedded one, by its faults.
    Embedded(Arc<TestBroker>),
    /// RabbitMQ, by its own commands.
    RabbitMq,
}

/// Puts things back when it is dropped, even after a failure.
#[must_use = "dropped, it puts things back"]
pub(crate) struct Disturbance(Option<Box<dyn FnOnce() -> Result<String, String> + Send>>);

/// What there can be too little of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resource {
    Memory,
    Disk,
}

/// A user that comes and goes; the password is the same.
pub(crate) const TEMPORARY_USER: &str = "temporary";

/// A virtual host that comes and goes, of `guest`'s.
pub(crate) const TEMPORARY_VIRTUAL_HOST: &str = "temporary";

/// RabbitMQ's default from 4.0 on, in octets, and the embedded broker's.
pub(crate) const MAX_MESSAGE_SIZE: usize = 16 * 1024 * 1024;

/// The users of the private RabbitMQ: `guest` may do all, `limited` may not configure, `nobody` may not even come in.
pub(crate) fn embedded_config() -> BrokerConfig {
    let limited = Permissions::new(Access::Nothing, Access::All, Access::All);
    let users = [
        ("limited", Some(limited)),
        ("nobody", None),
        (TEMPORARY_USER, Some(Permissions::default())),
    ];
    let mut config = BrokerConfig::default();
    for (name, permissions) in users {
        let user = match permissions {
            Some(permissions) => User::new(name).with_permissions("/", permissions),
            None => User::new(name),
        };
        config.users.insert(name.to_owned(), user);
    }
    config.virtual_hosts.push(TEMPORARY_VIRTUAL_HOST.to_owned());
    if let Some(guest) = config.users.get_mut("guest") {
        let all = Permissions::default();
        guest.permissions.insert(TEMPORARY_VIRTUAL_HOST.to_owned(), all);
    }
    config
}

impl Operator {
    /// The broker takes no publishes for lack of that.
    pub(crate) fn alarm(&self, resource: Resource) -> Disturbance {
        match self {
            Self::Embedded(broker) => {
                broker.with(|broker| broker.block(resource.words()));
                let broker = Arc::clone(broker);
                Disturbance::until(move || at_once(&broker, |broker, now| broker.unblock(now)))
            }
            Self::RabbitMq => {
                let (set, clear) = match resource {
                    Resource::Memory => (
                        "set_vm_memory_high_watermark 0",
                        "set_vm_memory_high_watermark 0.4",
                    ),
                    Resource::Disk => ("set_disk_free_limit 900000GB", "set_disk_free_limit 50MB"),
                };
                let alarm = Disturbance::until_done(|| ctl(clear));
                must_ctl(set);
                alarm
            }
        }
    }

    /// Closes everybody's connections, in those words.
    pub(crate) fn close_all_connections(&self, words: &str) {
        match self {
            Self::Embedded(broker) => close_where(broker, |_| true, words),
            Self::RabbitMq => drop(must_ctl(&format!("close_all_connections '{words}'"))),
        }
    }

    /// Ends the broker in an orderly way; it is there again afterwards.
    pub(crate) fn shut_down(&self) -> Disturbance {
        match self {
            Self::Embedded(broker) => {
                broker.with(|broker| broker.refuse_connections(u32::MAX));
                let words = "broker forced connection closure with reason 'shutdown'";
                close_where(broker, |_| true, words);
                let broker = Arc::clone(broker);
                Disturbance::until(move || broker.with(|broker| broker.refuse_connections(0)))
            }
            Self::RabbitMq => {
                let pause = Disturbance::until_done(|| ctl("start_app"));
                must_ctl("stop_app");
                pause
            }
        }
    }

    /// Kills the broker without warning; it is there again afterwards, with what it keeps on disk.
    pub(crate) fn kill(&self) -> Disturbance {
        match self {
            Self::Embedded(broker) => {
                at_once(broker, Broker::restart);
                Disturbance(None)
            }
            Self::RabbitMq => {
                // RabbitMQ 3 writes down that there is a new queue up to two seconds later, and who leads its streams, up to three minutes.
                must_ctl("eval 'catch mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()].'");
                let restart = thread::spawn(|| shell(&variable("AMQP_TEST_RESTART")));
                let join = move || restart.join().map_err(|_| "it panicked".to_owned());
                Disturbance::until_done(|| join()?)
            }
        }
    }

    /// Stops the broker's process: its connections stay, and nothing comes of them. It goes on afterwards.
    pub(crate) fn freeze(&self) -> Disturbance {
        match self {
            Self::Embedded(broker) => {
                let set = |broker: &mut Broker, now, is_frozen| {
                    for ConnectionInfo { key, .. } in broker.connections() {
                        broker.set_mute(key, now, is_frozen);
                        broker.set_deaf(key, now, is_frozen);
                    }
                };
                at_once(broker, |broker, now| set(broker, now, true));
                let broker = Arc::clone(broker);
                Disturbance::until(move || at_once(&broker, |broker, now| set(broker, now, false)))
            }
            Self::RabbitMq => {
                let process = broker_process();
                let go_on = format!("kill -CONT {process}");
                let pause = Disturbance::until_done(move || shell(&go_on));
                shell(&format!("kill -STOP {process}")).unwrap();
                pause
            }
        }
    }

    /// Has methods fail; only the embedded broker can.
    pub(crate) fn fail_methods(
        &self,
        fault: impl FnMut(&Method<'_>) -> Option<MethodFault> + Send + 'static,
    ) {
        let Self::Embedded(broker) = self else {
            panic!("RabbitMQ does not fail on demand");
        };
        broker.with(|broker| broker.fail_methods(fault));
    }

    /// Lets [`TEMPORARY_USER`] in, with all permissions.
    pub(crate) fn add_user(&self) -> Disturbance {
        match self {
            // It is in the configuration.
            Self::Embedded(_) => Disturbance(None),
            Self::RabbitMq => {
                must_ctl(&format!("add_user {TEMPORARY_USER} {TEMPORARY_USER}"));
                // It may have been deleted meanwhile.
                let user = Disturbance::until(|| drop(ctl(&format!("delete_user {TEMPORARY_USER}"))));
                must_ctl(&format!("set_permissions {TEMPORARY_USER} '.*' '.*' '.*'"));
                user
            }
        }
    }

    /// Makes [`TEMPORARY_VIRTUAL_HOST`].
    pub(crate) fn add_virtual_host(&self) -> Disturbance {
        match self {
            // It is in the configuration.
            Self::Embedded(_) => Disturbance(None),
            Self::RabbitMq => {
                must_ctl(&format!("add_vhost {TEMPORARY_VIRTUAL_HOST}"));
                // It may have been deleted meanwhile.
                let delete = format!("delete_vhost {TEMPORARY_VIRTUAL_HOST}");
                let host = Disturbance::until(move || drop(ctl(&delete)));
                must_ctl(&format!(
                    "set_permissions -p {TEMPORARY_VIRTUAL_HOST} guest '.*' '.*' '.*'"
                ));
                host
            }
        }
    }

    /// Deletes [`TEMPORARY_VIRTUAL_HOST`].
    pub(crate) fn delete_virtual_host(&self) {
        match self {
            Self::Embedded(broker) => {
                let is_there =
                    |info: &ConnectionInfo| info.virtual_host.as_deref() == Some(TEMPORARY_VIRTUAL_HOST);
                close_where(
                    broker,
                    is_there,
                    &format!("vhost '{TEMPORARY_VIRTUAL_HOST}' is deleted"),
                );
            }
            Self::RabbitMq => drop(must_ctl(&format!("delete_vhost {TEMPORARY_VIRTUAL_HOST}"))),
        }
    }

    /// Takes no bodies over [`MAX_MESSAGE_SIZE`] on channels that are opened from now on.
    pub(crate) fn limit_messages(&self) -> Disturbance {
        match self {
            Self::Embedded(_) => Disturbance(None),
            Self::RabbitMq => {
                let set =
                    |size: &str| format!("eval 'application:set_env(rabbit, max_message_size, {size}).'");
                let before = must_ctl("eval 'element(2, application:get_env(rabbit, max_message_size)).'");
                let reset = set(before.trim());
                let limit = Disturbance::until_done(move || ctl(&reset));
                must_ctl(&set(&MAX_MESSAGE_SIZE.to_string()));
                limit
            }
        }
    }

    /// Waits only a second for deliveries to be settled, of consumers on connections that begin from now on.
    #[allow(dead_code, reason = "not every crate has such scenarios")]
    pub(crate) fn time_out_deliveries(&self) -> Disturbance {
        match self {
            Self::Embedded(broker) => {
                broker.with(|broker| broker.set_consumer_timeout(Some(Duration::from_secs(1))));
                let broker = Arc::clone(broker);
                Disturbance::until(move || broker.with(|broker| broker.set_consumer_timeout(None)))
            }
            Self::RabbitMq => {
                let set = |timeout: u32, channel_tick: u32, queue_tick: u32| {
                    format!(
                        "eval '[application:set_env(rabbit, K, V) || {{K, V}} <- [{{consumer_timeout, {timeout}}}, \
                         {{channel_tick_interval, {channel_tick}}}, {{quorum_tick_interval, {queue_tick}}}]].'"
                    )
                };
                // These are RabbitMQ's defaults, in milliseconds.
                let reset = set(1_800_000, 60_000, 5_000);
                let timeout = Disturbance::until_done(move || ctl(&reset));
                must_ctl(&set(1_000, 500, 500));
                timeout
            }
        }
    }

    /// Listens for TLS on another port of 127.0.0.1 too, for clients with certificates only; RabbitMQ alone can.
    pub(crate) fn demand_client_certificates(&self) -> (u16, Disturbance) {
        const SET: &str = "lists:keystore(fail_if_no_peer_cert, 1, O, {fail_if_no_peer_cert, true})";
        let port = super::connecting::free_port();
        let stop = format!("eval 'rabbit_networking:stop_tcp_listener({{\"127.0.0.1\", {port}, inet}}).'");
        let listener = Disturbance::until_done(move || ctl(&stop));
        must_ctl(&format!(
            "eval '{{ok, O}} = application:get_env(rabbit, ssl_options), \
             ok = rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}, inet}}, {SET}, 1).'"
        ));
        (port, listener)
    }

    /// Deletes [`TEMPORARY_USER`].
    pub(crate) fn delete_user(&self) {
        match self {
            Self::Embedded(broker) => {
                let is_theirs = |info: &ConnectionInfo| info.user.as_deref() == Some(TEMPORARY_USER);
                close_where(broker, is_theirs, &format!("user '{TEMPORARY_USER}' is deleted"));
            }
            Self::RabbitMq => drop(must_ctl(&format!("delete_user {TEMPORARY_USER}"))),
        }
    }
}

impl Disturbance {
    fn until(undo: impl FnOnce() + Send + 'static) -> Self {
        Self::until_done(|| {
            undo();
            Ok(String::new())
        })
    }

    /// For what may fail.
    fn until_done(undo: impl FnOnce() -> Result<String, String> + Send + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }

    /// Puts things back now.
    pub(crate) fn end(self) {}
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        let Some(Err(error)) = self.0.take().map(|undo| undo()) else {
            return;
        };
        // Whoever comes next suffers from it: that must be seen, even if this test has failed already.
        let message = format!("the broker could not be put right: {error}");
        match thread::panicking() {
            true => eprintln!("{message}"),
            false => panic!("{message}"),
        }
    }
}

impl Resource {
    /// RabbitMQ's words when there is too little of it.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Memory => "low on memory",
            Self::Disk => "low on disk",
        }
    }
}

fn at_once(broker: &TestBroker, action: impl FnOnce(&mut Broker, Instant)) {
    let now = broker.now();
    broker.with(|broker| action(broker, now));
}

/// Closes some connections as RabbitMQ's operators do.
fn close_where(broker: &TestBroker, is_meant: impl Fn(&ConnectionInfo) -> bool, words: &str) {
    let words = format!("CONNECTION_FORCED - {words}");
    at_once(broker, |broker, now| {
        for info in broker.connections().into_iter().filter(|info| is_meant(info)) {
            broker.close_connection(info.key, now, ReplyCode::CONNECTION_FORCED, &words);
        }
    });
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// Runs one of the broker's own commands; what it prints.
fn ctl(arguments: &str) -> Result<String, String> {
    shell(&format!("{} {arguments}", variable("AMQP_TEST_CTL")))
}

fn must_ctl(arguments: &str) -> String {
    ctl(arguments).unwrap()
}

fn shell(command: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", command]).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The process of a broker that is on this machine.
fn broker_process() -> u32 {
    let printed = must_ctl("eval 'io:format(\"~s~n\", [os:getpid()]).'");
    let process = printed.lines().next().unwrap().parse().unwrap();
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    assert!(
        name.contains("beam"),
        "process {process} is {name:?}: is the broker on this machine?"
    );
    process
}
