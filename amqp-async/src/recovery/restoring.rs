//! Puts right what a loss has interrupted: has the plan carried out, and gives handles their new channels and consumers.

use std::sync::Arc;
use std::task::Waker;

use amqp_proto::topology::{Outcome, Plan, Restorer, Sent, Step, StepError, StepKind, Topology};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelCloseReason, ChannelId, ConsumerId, Event, Instant, RequestError, RequestId};

use super::lost::place;
use super::{Recovering, RecoveryReport, Unrestored};
use crate::channels::{Channels, Unsaid};
use crate::events::ConnectionEvent;
use crate::inbox::ConsumerEnd;
use crate::shared::State;

impl State {
    /// What is to be made again, if that is to be planned now.
    pub(crate) fn take_unplanned(&mut self) -> Option<Topology> {
        let recovering = self.recovering.as_mut()?;
        std::mem::take(&mut recovering.is_to_plan).then(|| recovering.recorder.topology().clone())
    }

    pub(crate) fn begin_to_restore(&mut self, plan: Plan) {
        if let Some(recovering) = &mut self.recovering {
            if let Some(judging) = &mut recovering.judging {
                judging.begin();
            }
            let culprits = std::mem::take(&mut recovering.culprits);
            recovering.restorer = Some(Restorer::new(plan).avoiding(culprits));
        }
    }

    /// Whether that was about the plan alone.
    #[cold]
    pub(crate) fn on_restoring(&mut self, event: &Event) -> bool {
        let Some(Recovering {
            restorer: Some(restorer),
            recorder,
            starting,
            ..
        }) = self.recovering.as_deref_mut()
        else {
            return false;
        };
        let is_ours = restorer.on_event(event, recorder.topology_mut());
        match event {
            Event::Reply(reply) => {
                if let Some(consumer) = starting.remove(&reply.request()) {
                    self.on_started_again(consumer);
                }
            }
            Event::RequestFailed { request, .. } => drop(starting.remove(request)),
            _ => {}
        }
        is_ours
    }

    /// It may be that nobody wants it any more.
    fn on_started_again(&mut self, consumer: ConsumerId) {
        let entry = self.channels.find_mut(consumer.channel());
        let inbox = entry.and_then(|entry| entry.inbox(consumer));
        if inbox.is_none_or(|inbox| inbox.has_ended()) {
            self.say(consumer.channel(), Unsaid::Cancel(consumer));
        }
    }

    /// Whether that consumer is cancelled when it has started, if nobody wants it then.
    pub(crate) fn is_starting_again(&self, consumer: ConsumerId) -> bool {
        let recovering = self.recovering.as_ref().filter(|_| self.is_lost());
        recovering.is_some_and(|recovering| recovering.starting.values().any(|other| *other == consumer))
    }

    /// Sends what the plan says, as far as there is room for it.
    pub(crate) fn go_on_restoring(&mut self, now: Instant) {
        let Some(recovering) = self.recovering.as_deref_mut() else {
            return;
        };
        let Some(mut restorer) = recovering.restorer.take() else {
            return;
        };
        if let Some(judging) = &mut recovering.judging {
            judging.retry(&mut restorer, now);
        }
        let mut taken = Taken {
            channels: &mut self.channels,
            wakes: &mut self.wakes,
            opened: Vec::new(),
            started: Vec::new(),
        };
        let result = restorer.send(&mut self.connection, &mut |sent| taken.note(&sent));
        let Taken { opened, started, .. } = taken;
        for (place, channel) in opened {
            self.take_over(place, channel);
        }
        if let Some(recovering) = &mut self.recovering {
            recovering.starting.extend(started);
        }
        let Some(recovering) = &mut self.recovering else {
            return;
        };
        // If there is no room, there is more to send when there is.
        let is_finished = result.is_ok() && restorer.is_finished();
        match &mut recovering.judging {
            None if is_finished => return self.on_restored(restorer.plan(), now),
            Some(judging) if is_finished => judging.on_settled(),
            _ => {}
        }
        recovering.restorer = Some(restorer);
    }

    /// A channel of the core's is one of ours from now on.
    fn take_over(&mut self, place: usize, channel: ChannelId) {
        let Ok(mut core) = self.connection.channel(channel) else {
            return;
        };
        match self.channels.get(place) {
            // Nothing was delivered on it, so that it takes all of them.
            Some(entry) if entry.id() == channel => drop(entry.options.apply(&mut core)),
            // Its last handle has gone meanwhile.
            _ => drop(core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown")),
        }
    }

    /// Every step is settled: handles go on, but for those whose part was refused.
    pub(super) fn on_restored(&mut self, plan: &Plan, now: Instant) {
        let mut report = RecoveryReport::new(plan);
        for (step, outcome) in plan.outcomes() {
            match outcome {
                Outcome::Succeeded => {}
                Outcome::Failed(error) => self.end_unrestored(step, Some(error)),
                _ => self.end_unrestored(step, None),
            }
        }
        self.end_left_out(&mut report, now);
        self.lost = None;
        self.recoveries += 1;
        self.has_to_republish = true;
        if let Some(recovering) = &mut self.recovering {
            recovering.recovered_at = Some(now);
            recovering.names.update(recovering.recorder.topology());
        }
        self.watchers
            .tell(&ConnectionEvent::Recovered(Arc::new(report)), &mut self.wakes);
        self.wake_all();
    }

    /// What the plan did not bring back has ended: it was left out, or the broker has taken it back meanwhile.
    fn end_left_out(&mut self, report: &mut RecoveryReport, now: Instant) {
        for place in self.channels.places() {
            let Some(entry) = self.channels.unclosed_mut(place) else {
                continue;
            };
            if !entry.is_open && !entry.is_closing {
                let reason = entry
                    .last_end
                    .as_deref()
                    .cloned()
                    .unwrap_or(ChannelCloseReason::Requested);
                // If the broker has closed it since, it was there.
                if !self.reopen(place, &reason, now) {
                    self.end_channel(place, &reason);
                    let what = "channel.open".to_owned();
                    report.unrestored.push(Unrestored::new(what, None));
                }
                continue;
            }
            let id = entry.id();
            let inboxes = entry.consumers.iter_mut();
            let gone = inboxes.filter(|inbox| inbox.is_running() && inbox.id.channel() != id);
            for inbox in gone {
                inbox.stop(ConsumerEnd::NotRestored, &mut self.wakes);
            }
        }
    }

    /// A channel or a consumer that is not there again has ended.
    fn end_unrestored(&mut self, step: &Step, error: Option<&StepError>) {
        let Some(place) = step.channel().and_then(place) else {
            return;
        };
        let reason = match error {
            Some(StepError::Request(RequestError::ChannelClosed(reason))) => Some(reason.clone()),
            _ => None,
        };
        if let StepKind::Consumer(consumer) = step.kind() {
            let tag = consumer.tag().as_short_str().to_string();
            if let Some(inbox) = self
                .channels
                .get_mut(place)
                .and_then(|entry| entry.inbox_of_tag(&tag))
            {
                let end = reason.map_or(ConsumerEnd::NotRestored, ConsumerEnd::Channel);
                inbox.stop(end, &mut self.wakes);
            }
            self.forget_consumer(place, &tag);
            return;
        }
        if let Some(entry) = self.channels.unclosed_mut(place) {
            let known = reason.or_else(|| entry.last_end.as_deref().cloned());
            entry.close(&known.unwrap_or(ChannelCloseReason::Requested), &mut self.wakes);
            let id = entry.id();
            if let Ok(mut core) = self.connection.channel(id) {
                let _ = core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
            }
            self.note_channel(place, false);
        }
    }
}

/// What was sent, and whose it is.
struct Taken<'c> {
    channels: &'c mut Channels,
    wakes: &'c mut Vec<Waker>,
    opened: Vec<(usize, ChannelId)>,
    started: Vec<(RequestId, ConsumerId)>,
}

impl Taken<'_> {
    fn note(&mut self, sent: &Sent<'_>) {
        match sent {
            Sent::Channel(key, channel) => {
                let place = place(*key).unwrap_or(usize::MAX);
                let entry = self.channels.get(place);
                // One that was closed meanwhile is closed again.
                if entry.is_some_and(|entry| entry.closed.is_none() && !entry.is_closing) {
                    self.channels.renumber(place, *channel);
                }
                self.opened.push((place, *channel));
            }
            Sent::Consumer(step, request, consumer) => {
                self.started.push((*request, *consumer));
                self.start(step, *consumer);
            }
            _ => {}
        }
    }

    /// Its handle goes on as that one, if somebody has it.
    fn start(&mut self, step: &Step, consumer: ConsumerId) {
        let place = step.channel().and_then(place).unwrap_or(usize::MAX);
        if let StepKind::Consumer(record) = step.kind()
            && let Some(entry) = self.channels.get_mut(place)
            && let Some(inbox) = entry.inbox_of_tag(&record.tag().as_short_str().to_string())
        {
            inbox.restart(consumer, self.wakes);
        }
    }
}
