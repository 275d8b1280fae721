//! What is done, on a loop that is run until what has to happen has happened ([`client`]).

pub(crate) use self::report::passed;
pub(crate) use self::world::World;

pub(crate) mod ack_timeouts;
pub(crate) mod alarms;
mod client;
pub(crate) mod connecting;
pub(crate) mod consuming;
pub(crate) mod credentials;
pub(crate) mod failing;
pub(crate) mod flow;
pub(crate) mod misuse;
#[path = "../../../amqp-async/scenarios/operator.rs"]
mod operator;
pub(crate) mod outages;
pub(crate) mod poison;
pub(crate) mod publishing;
pub(crate) mod recovery;
pub(crate) mod refusing;
#[path = "../../../amqp-async/scenarios/report.rs"]
mod report;
pub(crate) mod republishing;
pub(crate) mod restoring;
pub(crate) mod routing;
pub(crate) mod rpc;
pub(crate) mod securing;
pub(crate) mod shutdown;
pub(crate) mod streams;
pub(crate) mod worker;
mod world;
