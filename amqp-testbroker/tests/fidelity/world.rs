//! Where a scenario takes place.

use std::cell::{Cell, RefCell};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use amqp_proto::ConnectionParameters;
use amqp_proto::wire::{ExchangeDelete, QueueDelete};
use amqp_testbroker::{Access, Broker, BrokerConfig, Permissions, Release, User};

use crate::link::{Direct, Link, Machine, Socket};
use crate::session::{Login, PATIENCE, Session, short};

/// A broker to connect to.
pub(crate) struct World {
    stage: Stage,
    release: Cell<Option<Release>>,
    /// Names of what does not go with the connection that made it.
    lasting: RefCell<Vec<String>>,
}

enum Stage {
    Embedded(Rc<RefCell<Machine>>),
    /// Its host and port.
    Rabbitmq(String, u16),
}

/// Plays a scenario on a broker in this thread.
pub(crate) fn on_embedded(release: Release, scenario: fn(&World)) {
    let machine = Machine::new(Broker::new(config(release)));
    World::new(Stage::Embedded(machine), Some(release)).play(scenario);
}

/// Plays a scenario on the RabbitMQ that `AMQP_TEST_URL` names.
pub(crate) fn on_rabbitmq(scenario: fn(&World)) {
    let url = std::env::var("AMQP_TEST_URL").expect("AMQP_TEST_URL is not set: run `cargo xtask test`");
    let parameters = ConnectionParameters::from_uri(&url).unwrap();
    let (host, port) = parameters.addresses().next().unwrap();
    World::new(Stage::Rabbitmq(host.to_owned(), port), None).play(scenario);
}

/// The users and virtual hosts of the RabbitMQ that the tests start.
fn config(release: Release) -> BrokerConfig {
    let all = Permissions::new(Access::All, Access::All, Access::All);
    let limited = Permissions::new(Access::Nothing, Access::All, Access::All);
    let guest = User::new("guest").with_permissions("/", all.clone());
    let mut config = BrokerConfig::of(release);
    config.virtual_hosts = vec!["/".into(), "a|b".into()];
    config.users = [
        ("guest", guest.with_permissions("a|b", all)),
        ("limited", User::new("limited").with_permissions("/", limited)),
        ("nobody", User::new("nobody")),
    ]
    .map(|(name, user)| (name.to_owned(), user))
    .into();
    config
}

impl World {
    fn new(stage: Stage, release: Option<Release>) -> Self {
        Self {
            stage,
            release: Cell::new(release),
            lasting: RefCell::default(),
        }
    }

    /// What a scenario leaves behind is deleted, unless it fails.
    fn play(self, scenario: fn(&Self)) {
        scenario(&self);
        let lasting = self.lasting.take();
        if lasting.is_empty() {
            return;
        }
        let mut session = self.connect();
        for name in &lasting {
            session.call(&QueueDelete {
                queue: short(name),
                ..Default::default()
            });
            session.call(&ExchangeDelete {
                exchange: short(name),
                ..Default::default()
            });
        }
        session.close();
    }

    /// For differences that were left on purpose: the crate's README lists them.
    pub(crate) const fn is_embedded(&self) -> bool {
        matches!(self.stage, Stage::Embedded(_))
    }

    /// A stream on which nothing was said yet.
    pub(crate) fn dial(&self) -> Session {
        let link: Box<dyn Link> = match &self.stage {
            Stage::Embedded(machine) => Box::new(Direct::new(machine)),
            Stage::Rabbitmq(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(Socket(stream))
            }
        };
        Session::new(link)
    }

    /// A session of guest on `/`, with channel 1 open.
    #[track_caller]
    pub(crate) fn connect(&self) -> Session {
        self.connect_with(&Login::default())
    }

    /// The same for another user, whose password is the name.
    #[track_caller]
    pub(crate) fn connect_as(&self, user: &str) -> Session {
        self.connect_with(&Login {
            user,
            password: user,
            ..Default::default()
        })
    }

    #[track_caller]
    pub(crate) fn connect_with(&self, login: &Login<'_>) -> Session {
        let mut session = self.dial();
        session.log_in(login);
        session.enter(login.virtual_host);
        session.open(1);
        self.release.set(Some(session.release()));
        session
    }

    /// A name that nothing else has.
    pub(crate) fn name(&self, what: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{what}.{}.{number}", std::process::id())
    }

    /// The name of a queue or an exchange that is to be deleted when the scenario is over.
    pub(crate) fn lasting(&self, what: &str) -> String {
        let name = self.name(what);
        self.lasting.borrow_mut().push(name.clone());
        name
    }

    /// The first on RabbitMQ 3, the second on RabbitMQ 4. There must have been a session.
    #[track_caller]
    pub(crate) fn by_release<T>(&self, on_3: T, on_4: T) -> T {
        match self.release.get().expect("a session") {
            Release::V3_10 => on_3,
            _ => on_4,
        }
    }
}
