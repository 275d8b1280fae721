//! The class exchange.

use amqp_proto::wire::*;

use super::channel::Channel;
use super::context::{Context, Operation};
use crate::refusal::Refusal;

impl Channel {
    pub(super) fn declare_exchange(
        &self,
        cx: &mut Context<'_>,
        method: &ExchangeDeclare<'_>,
    ) -> Result<(), Refusal> {
        let name = method.exchange.as_bytes();
        // The default exchange is refused to everybody.
        if !method.passive && !name.is_empty() {
            cx.check_exchange(Operation::Configure, name)?;
            let alternate = method.arguments.get("alternate-exchange").ok().flatten();
            if let Some(alternate) = alternate.and_then(|name| name.as_bytes())
                && cx.find_exchange(method.exchange).is_err()
            {
                cx.check_exchange(Operation::Read, name)?;
                cx.check_exchange(Operation::Write, alternate)?;
            }
        }
        cx.host().declare_exchange(method)?;
        cx.answer_unless(method.no_wait, &ExchangeDeclareOk {});
        Ok(())
    }

    pub(super) fn delete_exchange(
        &self,
        cx: &mut Context<'_>,
        method: &ExchangeDelete<'_>,
    ) -> Result<(), Refusal> {
        let name = method.exchange.as_bytes();
        // Nor may anybody delete what is the broker's.
        if !name.is_empty() && !name.starts_with(b"amq.") {
            cx.check_exchange(Operation::Configure, name)?;
        }
        cx.host().delete_exchange(method)?;
        cx.answer_unless(method.no_wait, &ExchangeDeleteOk {});
        Ok(())
    }

    pub(super) fn bind_exchange(
        &self,
        cx: &mut Context<'_>,
        method: &ExchangeBind<'_>,
    ) -> Result<(), Refusal> {
        check_binding(cx, method.destination, method.source)?;
        cx.host().bind_exchange(method)?;
        cx.answer_unless(method.no_wait, &ExchangeBindOk {});
        Ok(())
    }

    pub(super) fn unbind_exchange(
        &self,
        cx: &mut Context<'_>,
        method: &ExchangeUnbind<'_>,
    ) -> Result<(), Refusal> {
        check_binding(cx, method.destination, method.source)?;
        cx.host().unbind_exchange(method)?;
        cx.answer_unless(method.no_wait, &ExchangeUnbindOk {});
        Ok(())
    }
}

/// Whether the user may bind the one to the other. Nobody may if either is the default exchange, which is said first.
fn check_binding(cx: &Context<'_>, destination: ShortStr<'_>, source: ShortStr<'_>) -> Result<(), Refusal> {
    if destination.is_empty() || source.is_empty() {
        return Ok(());
    }
    cx.check_exchange(Operation::Write, destination.as_bytes())?;
    cx.check_exchange(Operation::Read, source.as_bytes())
}
