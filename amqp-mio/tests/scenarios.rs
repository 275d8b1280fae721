//! The scenarios of `amqp-async/scenarios/` with callbacks: the same names, so that docs/parity.md can compare. What amqp-async has a type
//! or a policy for is done here as a program with callbacks does it.

// The operator's source is the asynchronous client's; of that it needs the core only, which is here too.
extern crate amqp_mio as amqp_async;

#[macro_use]
#[path = "../../amqp-async/scenarios/list.rs"]
mod list;

#[macro_use]
#[path = "../../amqp-async/scenarios/macros.rs"]
mod macros;

#[path = "scenarios/mod.rs"]
mod scenarios;

/// How a scenario is run: it is over when it returns.
mod runtime {
    use crate::scenarios::World;

    pub(crate) fn on_embedded(scenario: impl FnOnce(World)) {
        scenario(World::embedded());
    }

    /// On the broker that this variable names.
    pub(crate) fn on_rabbitmq(variable: &str, scenario: impl FnOnce(World)) {
        scenario(World::rabbitmq(variable));
    }

    /// Of one that has run.
    pub(crate) const fn run((): ()) {}
}

all_scenarios!();
